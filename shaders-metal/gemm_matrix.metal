// Many tokens times up to three ternary matrices, in tiles of 64 or 128 rows × 64 tokens, by simdgroup matrices: the twin of
// gemm.metal where the scale belongs to the tensor.
//
// Codes and int8 activations become halves, which hold them exactly, and 8 × 8 products are added up as floats: whole
// numbers below 2²⁴ up to 65536 columns, so no sum is rounded. Each of the eight simdgroups multiplies half of the rows with
// a quarter of the tokens. Rows in threadgroup memory are 72 halves apart instead of 64, so that banks differ. At the end
// the sums go through the same memory, 8 × 8 for each simdgroup at a time, since which lane holds which of them is not told.
//
// Grid, buffers, constants, bytes and operations as in gemm.metal; GROUPED is 0.

#define PITCH 72u
#define TEAM_BLOCKS (TILE_ROWS / 16u)

kernel void gemm(
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
    threadgroup half4 row_tile[TILE_ROWS * PITCH / 4u];
    threadgroup half4 token_tile[TILE * PITCH / 4u];
    threadgroup float corners[8u * 64u];
    const Matrices matrices = {{weights0, weights1, weights2}};
    const Tile tile = tile_of(group);
    const uint last_row = rows_of(tile.matrix) - 1u;
    device const uint* words = words_of(matrices, tile.matrix) + HEADER;
    // What this thread fetches: words of rows, and as many columns of a token.
    const uint fetch = local / 4u;
    const uint part = local % 4u;
    // Past the last row or token, that one stands in.
    device const char4* token_words = q + (min(tile.first_token + fetch, step.count - 1u) * WORDS + part) * 4u;
    // What its simdgroup computes.
    const uint team = local / 32u;
    const uint team_row = team % 2u * (TILE_ROWS / 2u);
    const uint team_token = team / 2u * 16u;

    simdgroup_float8x8 sums[TEAM_BLOCKS][2];
    for (uint i = 0u; i < TEAM_BLOCKS; i++) {
        for (uint j = 0u; j < 2u; j++) {
            sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
    }
    for (uint w = 0u; w < WORDS; w += 4u) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint row = fetch; row < TILE_ROWS; row += TILE) {
            const uint word = words[min(tile.first_row + row, last_row) * WORDS + part + w];
            for (uint j = 0u; j < 4u; j++) {
                const half4 codes = half4(as_type<uchar4>((word >> (2u * j)) & PAIRS));
                row_tile[row * (PITCH / 4u) + 4u * part + j] = codes - half4(1.0f);
            }
        }
        for (uint j = 0u; j < 4u; j++) {
            token_tile[fetch * (PITCH / 4u) + 4u * part + j] = half4(token_words[4u * w + j]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        threadgroup const half* rows = (threadgroup const half*)row_tile;
        threadgroup const half* tokens = (threadgroup const half*)token_tile;
        for (uint k = 0u; k < 64u; k += 8u) {
            simdgroup_half8x8 b[2];
            for (uint j = 0u; j < 2u; j++) {
                // Columns of the product are tokens.
                simdgroup_load(b[j], tokens + (team_token + 8u * j) * PITCH + k, PITCH, ulong2(0, 0), true);
            }
            for (uint i = 0u; i < TEAM_BLOCKS; i++) {
                simdgroup_half8x8 a;
                simdgroup_load(a, rows + (team_row + 8u * i) * PITCH + k, PITCH);
                for (uint j = 0u; j < 2u; j++) {
                    simdgroup_multiply_accumulate(sums[i][j], a, b[j], sums[i][j]);
                }
            }
        }
    }
    const Target target = {scales, residual, out, step.count, factor_of(matrices, tile.matrix)};
    threadgroup float* corner = corners + team * 64u;
    const uint lane = local % 32u;
    for (uint i = 0u; i < TEAM_BLOCKS; i++) {
        for (uint j = 0u; j < 2u; j++) {
            simdgroup_store(sums[i][j], corner, 8u);
            simdgroup_barrier(mem_flags::mem_threadgroup);
            for (uint at = lane; at < 64u; at += 32u) {
                const uint token = tile.first_token + team_token + 8u * j + at / 8u;
                const uint row = tile.first_row + team_row + 8u * i + at % 8u;
                store(target, tile.matrix, token, row, corner[at % 8u * 8u + at / 8u]);
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);
        }
    }
}
