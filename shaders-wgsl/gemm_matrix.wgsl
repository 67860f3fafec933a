// Tokens times up to three ternary matrices whose scale belongs to the tensor, by the matrices that a subgroup multiplies as one: the
// twin of gemm.wgsl where a device has them.
//
//     out[token, r] = Σ (code − 1)·q / s · factor
//
// Codes and int8 activations become halves, which hold them exactly, and products are added up as floats: whole numbers below 2²⁴ up
// to 65536 columns, so no sum is rounded and none depends on the order. So columns may lie in any order that both have: of four, the
// first and the third, then the others, as masks take them out of a word.
//
// A workgroup unpacks TILE_COLUMNS columns of its rows, and widens those of its tokens, while the next ones are on their way. Each team
// multiplies TEAM_ROWS × TEAM_TOKENS of the tile; where these are more than the tile has, teams share it by columns. Rows in
// workgroup memory are two vectors further apart than they are long, so that banks differ. At the end sums go through workgroup
// memory, SIDE × SIDE of a team at a time, since which lane holds which of them is not told.
//
// Lines behind `row` and `token` stand for the SIDE × SIDE blocks of a team, with # and @ for 0, 1, …; those behind `word` and `vector`
// for what an invocation fetches of rows and of tokens.
//
// Grid (Σ ⌈rows / TILE_ROWS⌉, ⌈tokens / TILE_TOKENS⌉). Reads COLS/4 bytes a row for each tile of tokens and COLS bytes a token for each
// tile of rows; 2·rows·COLS operations a token.
// Constants: those of gemm_store.wgsl, TILE_COLUMNS, TEAM_ROWS, TEAM_TOKENS, THREADS, LANES; SIDE and the types of matrix_8.wgsl or
// matrix_16.wgsl.

const TEAMS: u32 = THREADS / LANES;
const DOWN: u32 = TILE_ROWS / TEAM_ROWS;
const ACROSS: u32 = TILE_TOKENS / TEAM_TOKENS;
// Teams that multiply the same columns; and what of a row each has of the others' blocks.
const APART: u32 = DOWN * ACROSS;
const SLICE: u32 = TILE_COLUMNS / 4u / (TEAMS / APART);
// Words of a row in a tile.
const PARTS: u32 = TILE_COLUMNS / 16u;
const PITCH: u32 = TILE_COLUMNS / 4u + 2u;
const CORNER: u32 = SIDE * SIDE;
// Two halves that are whole numbers from 1024 on have these bits and the number's.
const HALVES: u32 = 0x64006400u;

var<workgroup> row_tile: array<vec4<f16>, TILE_ROWS * PITCH>;
var<workgroup> token_tile: array<vec4<f16>, TILE_TOKENS * PITCH>;
var<workgroup> corners: array<f32, TEAMS * CORNER>;

// The bits of `mask` in each half of `word` and of the same shifted by a byte, as numbers, less 1024 and `less`.
fn halves(word: u32, mask: u32, less: f16) -> vec4<f16> {
    let even = vec2<f16>(unpack2x16float((word & mask) | HALVES));
    let odd = vec2<f16>(unpack2x16float(((word >> 8u) & mask) | HALVES));
    return vec4<f16>(even, odd) - vec4<f16>(1024h + less);
}

fn unpack(word: u32, at: u32) {
    row_tile[at] = halves(word, 0x00030003u, 1h);
    row_tile[at + 1u] = halves(word >> 2u, 0x00030003u, 1h);
    row_tile[at + 2u] = halves(word >> 4u, 0x00030003u, 1h);
    row_tile[at + 3u] = halves(word >> 6u, 0x00030003u, 1h);
}

fn widen(numbers: vec4<u32>, at: u32) {
    let positive = numbers ^ vec4<u32>(0x80808080u);
    token_tile[at] = halves(positive.x, 0x00ff00ffu, 128h);
    token_tile[at + 1u] = halves(positive.y, 0x00ff00ffu, 128h);
    token_tile[at + 2u] = halves(positive.z, 0x00ff00ffu, 128h);
    token_tile[at + 3u] = halves(positive.w, 0x00ff00ffu, 128h);
}

// Where in its tile goes what an invocation fetches as its number `index`.
fn place(index: u32) -> u32 {
    return index / PARTS * PITCH + index % PARTS * 4u;
}

// Stores the blocks at `row` and `token` of all teams' parts, which lie in workgroup memory, token after token.
fn store_corners(tile: Tile, row: u32, token: u32, factor: f32, local: u32) {
    for (var i = local; i < APART * CORNER; i += THREADS) {
        var sum = corners[i];
        for (var other = i + APART * CORNER; other < TEAMS * CORNER; other += APART * CORNER) {
            sum += corners[other];
        }
        let team = i / CORNER;
        let own_row = team % DOWN * TEAM_ROWS + row + i % SIDE;
        let own_token = team / DOWN * TEAM_TOKENS + token + i % CORNER / SIDE;
        store(tile.matrix, tile.first_token + own_token, tile.first_row + own_row, sum, factor);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tile_of(group);
    let team = local / LANES;
    let team_rows = team % DOWN * TEAM_ROWS * PITCH;
    let team_tokens = team / DOWN % ACROSS * TEAM_TOKENS * PITCH;
    let slice = team / APART * SLICE;
    // Past the last row or token, that one stands in.
    let last_row = rows_of(tile.matrix) - 1u;
    let last_token = step.count - 1u;
//word     let word_at# = HEADER + min(tile.first_row + (local + #u * THREADS) / PARTS, last_row) * WORDS + local % PARTS;
//vector     let vector_at@ = min(tile.first_token + (local + @u * THREADS) / PARTS, last_token) * WORDS + local % PARTS;

//row //token     var sum#_@: Sums;
//word     var word# = code_word(tile.matrix, word_at#);
//vector     var vector@ = q[vector_at@];
    for (var w = 0u; w < WORDS; w += PARTS) {
        workgroupBarrier();
//word         if local + #u * THREADS < TILE_ROWS * PARTS { unpack(word#, place(local + #u * THREADS)); }
//vector         if local + @u * THREADS < TILE_TOKENS * PARTS { widen(vector@, place(local + @u * THREADS)); }
        workgroupBarrier();
        let ahead = min(w + PARTS, WORDS - PARTS);
//word         word# = code_word(tile.matrix, word_at# + ahead);
//vector         vector@ = q[vector_at@ + ahead];
        for (var k = slice; k < slice + SLICE; k += SIDE / 4u) {
//row             let codes# = coopLoadT<Rows>(&row_tile[team_rows + #u * SIDE * PITCH + k], PITCH);
//token             let numbers@ = coopLoad<Columns>(&token_tile[team_tokens + @u * SIDE * PITCH + k], PITCH);
//row //token             sum#_@ = coopMultiplyAdd(codes#, numbers@, sum#_@);
        }
    }
    let factor = factor_of(tile.matrix);
//row //token     coopStore(sum#_@, &corners[team * CORNER], SIDE); workgroupBarrier(); store_corners(tile, #u * SIDE, @u * SIDE, factor, local); workgroupBarrier();
}
