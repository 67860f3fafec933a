// Rows of f32 times a matrix of any format, each weight decoded to f32: the head, and projections that are not ternary.
//
//     out[token, r] = Σ weight·x · factor
//
// A simdgroup shares four rows of the matrix, and each activation that is read meets all four; a weight that is read meets
// TOKENS tokens.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE] at column OUT; 1 adds the residual.
//
// Grid (⌈ROWS / (4·TEAMS)⌉, ⌈tokens / TOKENS⌉). Reads the rows once for TOKENS tokens; 2·ROWS·COLS operations a token.
// The first of `counts` is the number of tokens.
// Constants: those of the format's file, ROWS, SPANS (of a row), OUT, OUT_STRIDE, R_OFFSET, R_STRIDE, EPILOGUE, TOKENS, THREADS,
// LANES.

kernel void dense(
    device const float* x [[buffer(0)]],
    device const uint* table [[buffer(2)]],
    device const float* residual [[buffer(3)]],
    device float* out [[buffer(4)]],
    device const uint* counts [[buffer(5)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint first_token = group.y * TOKENS;
    const uint tokens = counts[0];
    const uint lane = local % LANES;
    const uint first = (group.x * (THREADS / LANES) + local / LANES) * 4u;
    float sums[TOKENS][4] = {};
    for (uint span = lane; span < SPANS; span += LANES) {
        for (uint t = 0u; t < TOKENS; t++) {
            for (uint r = 0u; r < 4u; r++) {
                // Past the last row or token, that one stands in.
                sums[t][r] += span_dot(table, min(first + r, ROWS - 1u), span, x, min(first_token + t, tokens - 1u));
            }
        }
    }
    const float factor = header_of(table, 0u);
    for (uint t = 0u; t < TOKENS; t++) {
        const uint token = first_token + t;
        for (uint r = 0u; r < 4u; r++) {
            const uint row = first + r;
            const float sum = simd_sum(sums[t][r]);
            if (lane == 0u && row < ROWS && token < tokens) {
                float value = sum * factor;
                if (EPILOGUE == 1u) {
                    value = residual[R_OFFSET + token * R_STRIDE + OUT + row] + value;
                }
                out[token * OUT_STRIDE + OUT + row] = value;
            }
        }
    }
}
