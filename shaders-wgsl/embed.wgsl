// Rows of a table: out[i] = table[id of token i], [tokens, COLS] f32. An id is the last word of a place (place.wgsl), or that says
// in which place it was kept as the likeliest of its sequence (asked.wgsl).
//
// A table may be split by rows over several buffers; this dispatch writes the tokens whose rows are in its own, FIRST to
// FIRST + ROWS − 1, and leaves the others to theirs. Grid (tokens).
// Constants: those of the format's file, FIRST, ROWS, OUT_STRIDE.

@group(0) @binding(3) var<storage, read> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> likeliest_of: array<u32>;

const LIKELIEST: u32 = 0x80000000u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.x;
    var id = places[4u * token + 3u];
    if id >= LIKELIEST {
        id = likeliest_of[id - LIKELIEST];
    }
    if id < FIRST || id - FIRST >= ROWS {
        return;
    }
    for (var column = local; column < COLS; column += THREADS) {
        out[token * OUT_STRIDE + column] = weight4(id - FIRST, column / 4u)[column % 4u] * bitcast<f32>(header(1u));
    }
}
