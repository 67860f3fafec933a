// Some tokens times up to three ternary matrices whose scale belongs to the tensor, each word of weights widened once for TOKENS
// tokens.
//
//     out[token, r] = Σ (code − 1)·q / s · factor          (sums exact)
//
// Matrices as in matrices.metal; q and s as quantize.metal writes them. A simdgroup multiplies EACH neighbouring rows, whose words go
// to its lanes in turn. A lane's own sums are whole numbers below 2²⁴, as in gemv_tensor.metal.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm. 1 adds the residual at the same place.
// 2 stores gate(row of the first)·(row of the second); a simdgroup's rows are then those of the first and the second in turn.
//
// Grid (⌈rows / (TEAMS·EACH)⌉, ⌈tokens / TOKENS⌉), gated of all rows of both. Reads rows·COLS/4 bytes of weights and rows/EACH·COLS
// bytes of each token; 2·rows·COLS operations a token.
// Constants: those of matrices.metal, OUT_STRIDE, R_OFFSET and R_STRIDE (of the residual), EPILOGUE, SILU, EACH (even, if gated),
// TOGETHER (rows that make up one product: 2 if gated, else 1), TOKENS, THREADS, LANES.

// The sums of a simdgroup.
#define SUMS (EACH * TOKENS)

struct RowAt {
    uint matrix;
    uint row;
};

// The row that has this number among all; past the last one, that one stands in.
inline RowAt row_at(uint index) {
    if (EPILOGUE == 2u) {
        return RowAt{index % 2u, min(index / 2u, ROWS0 - 1u)};
    }
    const uint row = min(index, ROWS0 + ROWS1 + ROWS2 - 1u);
    if (row >= ROWS0 + ROWS1) {
        return RowAt{2u, row - ROWS0 - ROWS1};
    }
    if (row >= ROWS0) {
        return RowAt{1u, row - ROWS0};
    }
    return RowAt{0u, row};
}

kernel void gemv_rows(
    device const char4* q [[buffer(0)]],
    device const float* scales [[buffer(1)]],
    device const uint* weights0 [[buffer(2)]],
    device const uint* weights1 [[buffer(3)]],
    device const uint* weights2 [[buffer(4)]],
    device const float* residual [[buffer(5)]],
    device float* out [[buffer(6)]],
    constant Step& step [[buffer(7)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup int team_sums[THREADS / LANES * SUMS];
    const Matrices matrices = {{weights0, weights1, weights2}};
    const uint lane = local % LANES;
    const uint team = local / LANES;
    const uint first = (group.x * (THREADS / LANES) + team) * EACH;
    const uint first_token = group.y * TOKENS;
    device const uint* words[EACH];
    for (uint r = 0u; r < EACH; r++) {
        const RowAt at = row_at(first + r);
        words[r] = words_of(matrices, at.matrix) + HEADER + at.row * WORDS;
    }
    float sums[EACH][TOKENS] = {};
    for (uint w = lane; w < WORDS; w += LANES) {
        float4 codes[EACH][4];
        for (uint r = 0u; r < EACH; r++) {
            for (uint j = 0u; j < 4u; j++) {
                codes[r][j] = float4(as_type<uchar4>((words[r][w] >> (2u * j)) & PAIRS)) - float4(1.0f);
            }
        }
        for (uint t = 0u; t < TOKENS; t++) {
            // Past the last token, that one stands in.
            device const char4* token = q + (min(first_token + t, step.count - 1u) * WORDS + w) * 4u;
            for (uint j = 0u; j < 4u; j++) {
                const float4 four = float4(token[j]);
                for (uint r = 0u; r < EACH; r++) {
                    sums[r][t] += dot(codes[r][j], four);
                }
            }
        }
    }
    for (uint r = 0u; r < EACH; r++) {
        for (uint t = 0u; t < TOKENS; t++) {
            const int sum = simd_sum(int(sums[r][t]));
            if (lane == 0u) {
                team_sums[team * SUMS + r * TOKENS + t] = sum;
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint last = EPILOGUE == 2u ? ROWS0 : ROWS0 + ROWS1 + ROWS2;
    for (uint i = lane; i < SUMS / TOGETHER; i += LANES) {
        const uint token = first_token + i % TOKENS;
        const uint row = i / TOKENS * TOGETHER;
        if (token < step.count && (first + row) / TOGETHER < last) {
            const RowAt at = row_at(first + row);
            const uint sum_at = team * SUMS + row * TOKENS + i % TOKENS;
            float value = float(team_sums[sum_at]) / scales[token] * factor_of(matrices, at.matrix);
            if (EPILOGUE == 2u) {
                const float up = float(team_sums[sum_at + TOKENS]) / scales[token] * factor_of(matrices, 1u);
                value = gated4(float4(value), float4(up)).x;
            }
            const uint column = out_of(at.matrix) + at.row;
            if (EPILOGUE == 1u) {
                value = residual[R_OFFSET + token * R_STRIDE + column] + value;
            }
            out[token * OUT_STRIDE + column] = value;
        }
    }
}
