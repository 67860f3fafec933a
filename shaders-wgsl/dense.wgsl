// Rows of f32 times a matrix of any format, each weight decoded to f32: the head, and projections that are not ternary.
//
//     out[token, r] = Σ weight·x · factor
//
// The lanes of a team share four rows of the matrix, and each activation that is read meets all four; a weight that is read
// meets TOKENS tokens: lines behind `each` stand for one of them, with @ for 0, 1, ….
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE] at column OUT; 1 adds the residual.
//
// Grid (⌈ROWS / (4·TEAMS)⌉, ⌈tokens / TOKENS⌉). Reads the rows once for TOKENS tokens; 2·ROWS·COLS operations a token.
// Constants: those of the format's file, ROWS, SPANS (of a row), OUT, OUT_STRIDE, R_OFFSET, R_STRIDE, EPILOGUE, TOKENS, THREADS,
// LANES.

@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
// The first word is the number of tokens.
@group(0) @binding(5) var<storage, read> counts: array<u32>;

fn store(token: u32, row: u32, sum: f32) {
    if row < ROWS && token < counts[0] {
        var value = sum * bitcast<f32>(header(0u));
        if EPILOGUE == 1u {
            value = residual[R_OFFSET + token * R_STRIDE + OUT + row] + value;
        }
        out[token * OUT_STRIDE + OUT + row] = value;
    }
}

fn store4(token: u32, row: u32, lane: u32, sums: vec4<f32>) {
    if lane == 0u {
        store(token, row, sums.x);
        store(token, row + 1u, sums.y);
        store(token, row + 2u, sums.z);
        store(token, row + 3u, sums.w);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Past the last token, that one stands in.
    let last_token = counts[0] - 1u;
//each     let token@ = min(group.y * TOKENS + @u, last_token);
    let lane = local % LANES;
    let first = (group.x * (THREADS / LANES) + local / LANES) * 4u;
    // Past the last row, that row stands in.
    let r0 = min(first, ROWS - 1u);
    let r1 = min(first + 1u, ROWS - 1u);
    let r2 = min(first + 2u, ROWS - 1u);
    let r3 = min(first + 3u, ROWS - 1u);
//each     var sums@ = vec4<f32>();
    for (var span = lane; span < SPANS; span += LANES) {
//each         sums@ += vec4<f32>(span_dot(r0, span, token@), span_dot(r1, span, token@), span_dot(r2, span, token@), span_dot(r3, span, token@));
    }
//each     sums@ = lanes_sum_vec4(sums@, local);
//each     store4(group.y * TOKENS + @u, first, lane, sums@);
}
