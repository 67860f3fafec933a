// One token at a time times up to three ternary matrices, norm and rounding of the token included.
//
//     out[r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact)
//
// A threadgroup norms and rounds the row once, into threadgroup memory, and each of its simdgroups multiplies EACH
// rows of weights with it: the more rows, the less the rounding weighs, and every activation that is widened to a float
// meets all of them. Products of codes and int8 are added as floats, which an Apple GPU multiplies faster than 32-bit
// integers; they are whole numbers below 2²⁴, so no sum is rounded.
//
// Matrices as in matrices.metal; the sums are those of gemv_tensor.metal or gemv_group.metal.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm. 1 adds the residual at the same place.
// 2 stores gate(row of the first)·(row of the second).
//
// Grid (⌈rows / (TEAMS·EACH)⌉, tokens). Reads rows·COLS/4 bytes of weights; 2·rows·COLS operations.
// Constants: those of matrices.metal, GROUP, GROUPS (of a row), OUT_STRIDE, R_OFFSET and R_STRIDE (of the residual),
// EPILOGUE, SILU, PADDED (words of a row that are rounded, zeros past COLS), EACH, PIECES (whether x comes in pieces of
// attention: value_pieces.metal), those of quantize_row.metal.

kernel void gemv(
    device const float* x [[buffer(0)]],
    device const float* gain [[buffer(1)]],
    device const uint* weights0 [[buffer(2)]],
    device const uint* weights1 [[buffer(3)]],
    device const uint* weights2 [[buffer(4)]],
    device const float* residual [[buffer(5)]],
    device float* out [[buffer(6)]],
#if PIECES
    constant Step& step [[buffer(7)]],
#endif
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
    threadgroup char4 quantized[4u * PLANE];
#if PIECES
    const Source source = {(device const float4*)x, gain, &step};
#else
    const Source source = {x, gain};
#endif
    const Matrices matrices = {{weights0, weights1, weights2}};
    const uint token = group.y;
    const uint lane = local % LANES;

    const Kept own = kept(source, token, local);
    const Rounding rounding = rounding_of(own, source, local, room);
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        const uint chunk = local + i * THREADS;
        if (chunk < 4u * PADDED) {
            quantized[chunk % 4u * PLANE + chunk / 4u] = rounded4(own.x[i], gain, chunk, rounding);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    const uint first = (group.x * TEAMS + local / LANES) * EACH;
    Place places[EACH];
    for (uint r = 0u; r < EACH; r++) {
        places[r] = place_of(first + r);
    }
    const Totals totals = totals_of(matrices, places, quantized, lane);
    float values[EACH];
    for (uint r = 0u; r < EACH; r++) {
        values[r] = totals.rows[r] / rounding.scale * factor_of(matrices, places[r].matrix);
    }
    if (EPILOGUE == 2u) {
        for (uint r = 0u; r < EACH; r++) {
            places[r].matrix = 1u;
        }
        const Totals others = totals_of(matrices, places, quantized, lane);
        for (uint r = 0u; r < EACH; r++) {
            const float up = others.rows[r] / rounding.scale * factor_of(matrices, 1u);
            values[r] = gated4(float4(values[r]), float4(up)).x;
            places[r].matrix = 0u;
        }
    }
    const uint last = EPILOGUE == 2u ? ROWS0 : ROWS0 + ROWS1 + ROWS2;
    if (lane == 0u) {
        for (uint r = 0u; r < EACH; r++) {
            if (first + r < last) {
                const uint column = out_of(places[r].matrix) + places[r].row;
                float value = values[r];
                if (EPILOGUE == 1u) {
                    value = residual[R_OFFSET + token * R_STRIDE + column] + value;
                }
                out[token * OUT_STRIDE + column] = value;
            }
        }
    }
}
