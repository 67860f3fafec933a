// Many tokens times up to three ternary matrices, in tiles of 64 or 128 rows × 64 tokens, in integers: for any width, and for scales of
// groups. gemm_matrix.wgsl is its faster twin where the scale belongs to the tensor and the device multiplies matrices.
//
//     out[token, r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact in i32)
//
// Matrices as in matrices.wgsl; q and s as quantize.wgsl writes them. For each 64 columns a workgroup unpacks its rows to
// int8, one word of 16 codes at a time, and copies its tokens; then each invocation multiplies four or eight rows with four
// tokens, sixteen columns at a time. The next columns are on their way meanwhile. Rows in workgroup memory are five
// vectors apart instead of four, so that eight lanes find eight different banks.
//
// Lines behind `each` stand for one or two blocks of 64 rows, with @ for 0 and 1.
//
// Grid (Σ ⌈rows / TILE_ROWS⌉, ⌈tokens / 64⌉). Reads COLS/4 bytes a row for each tile of tokens and COLS bytes a token for each
// tile of rows; 2·rows·COLS operations a token.
// Constants: those of gemm_store.wgsl, GROUPED (0: the scale is the tensor's), GROUP, GROUPS. A workgroup has 256 invocations.

const TILE: u32 = TILE_TOKENS;
const PITCH: u32 = 5u;

var<workgroup> row_tile: array<vec4<u32>, TILE_ROWS * PITCH>;
var<workgroup> token_tile: array<vec4<u32>, TILE * PITCH>;

// Scales of rows r, r + 16, …; past the last row, that row stands in.
fn row_scales(matrix: u32, row: u32, group: u32) -> vec4<f32> {
    let rows = rows_of(matrix);
    let at = HEADER + rows * WORDS + group;
    return bitcast<vec4<f32>>(vec4<u32>(
        code_word(matrix, at + min(row, rows - 1u) * GROUPS),
        code_word(matrix, at + min(row + 16u, rows - 1u) * GROUPS),
        code_word(matrix, at + min(row + 32u, rows - 1u) * GROUPS),
        code_word(matrix, at + min(row + 48u, rows - 1u) * GROUPS),
    ));
}

// Four sums of each of four tokens t, t + 16, …: rows r, r + 16, ….
struct Sums {
    t0: vec4<i32>,
    t1: vec4<i32>,
    t2: vec4<i32>,
    t3: vec4<i32>,
}

struct Totals {
    t0: vec4<f32>,
    t1: vec4<f32>,
    t2: vec4<f32>,
    t3: vec4<f32>,
}

// The sums and sixteen columns more, for the rows from r on.
fn added(sums: Sums, r: u32, k: u32, b0: vec4<u32>, b1: vec4<u32>, b2: vec4<u32>, b3: vec4<u32>) -> Sums {
    let a0 = row_tile[r * PITCH + k];
    let a1 = row_tile[(r + 16u) * PITCH + k];
    let a2 = row_tile[(r + 32u) * PITCH + k];
    let a3 = row_tile[(r + 48u) * PITCH + k];
    return Sums(
        sums.t0 + vec4<i32>(dot16(a0, b0), dot16(a1, b0), dot16(a2, b0), dot16(a3, b0)),
        sums.t1 + vec4<i32>(dot16(a0, b1), dot16(a1, b1), dot16(a2, b1), dot16(a3, b1)),
        sums.t2 + vec4<i32>(dot16(a0, b2), dot16(a1, b2), dot16(a2, b2), dot16(a3, b2)),
        sums.t3 + vec4<i32>(dot16(a0, b3), dot16(a1, b3), dot16(a2, b3), dot16(a3, b3)),
    );
}

fn scaled(totals: Totals, sums: Sums, d: vec4<f32>) -> Totals {
    return Totals(
        totals.t0 + vec4<f32>(sums.t0) * d,
        totals.t1 + vec4<f32>(sums.t1) * d,
        totals.t2 + vec4<f32>(sums.t2) * d,
        totals.t3 + vec4<f32>(sums.t3) * d,
    );
}

fn store4(matrix: u32, token: u32, row: u32, sums: vec4<f32>, factor: f32) {
    store(matrix, token, row, sums.x, factor);
    store(matrix, token, row + 16u, sums.y, factor);
    store(matrix, token, row + 32u, sums.z, factor);
    store(matrix, token, row + 48u, sums.w, factor);
}

fn store_all(matrix: u32, token: u32, row: u32, totals: Totals) {
    let factor = factor_of(matrix);
    store4(matrix, token, row, totals.t0, factor);
    store4(matrix, token + 16u, row, totals.t1, factor);
    store4(matrix, token + 32u, row, totals.t2, factor);
    store4(matrix, token + 48u, row, totals.t3, factor);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tile_of(group);
    let matrix = tile.matrix;
    let last_row = rows_of(matrix) - 1u;
    let first_row = tile.first_row;
    let first_token = tile.first_token;
    // What this invocation fetches: a word of a row, and as many columns of a token.
    let fetch = local / 4u;
    let part = local % 4u;
    // Past the last row or token, that one stands in.
    let token_at = min(first_token + fetch, step.count - 1u) * WORDS + part;
//each     let row_at@ = HEADER + min(first_row + fetch + @u * TILE, last_row) * WORDS + part;
    // What it computes: rows r, r + 16, …, and tokens t, t + 16, ….
    let r = local % 16u;
    let t = local / 16u;

//each     var sums@: Sums;
//each     var totals@: Totals;
//each     var next_word@ = code_word(matrix, row_at@);
    var next_q = q[token_at];
    for (var w = 0u; w < WORDS; w += 4u) {
        workgroupBarrier();
//each         row_tile[(fetch + @u * TILE) * PITCH + part] = unpacked(next_word@);
        token_tile[fetch * PITCH + part] = next_q;
        workgroupBarrier();
        let ahead = min(w + 4u, WORDS - 4u);
//each         next_word@ = code_word(matrix, row_at@ + ahead);
        next_q = q[token_at + ahead];
        for (var k = 0u; k < 4u; k++) {
            let b0 = token_tile[t * PITCH + k];
            let b1 = token_tile[(t + 16u) * PITCH + k];
            let b2 = token_tile[(t + 32u) * PITCH + k];
            let b3 = token_tile[(t + 48u) * PITCH + k];
//each             sums@ = added(sums@, r + @u * TILE, k, b0, b1, b2, b3);
        }
        if GROUPED == 1u {
            let columns = (w + 4u) * 16u;
            if columns % GROUP == 0u {
                let index = columns / GROUP - 1u;
//each                 totals@ = scaled(totals@, sums@, row_scales(matrix, first_row + r + @u * TILE, index));
//each                 sums@ = Sums();
            }
        }
    }
    if GROUPED == 0u {
//each         totals@ = scaled(totals@, sums@, vec4<f32>(1.0));
    }
//each     store_all(matrix, first_token + t, first_row + r + @u * TILE, totals@);
}
