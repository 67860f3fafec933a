// Many tokens times up to three ternary matrices, in tiles of 64 or 128 rows × 64 tokens, in integers: for any width, and
// for scales of groups. gemm_matrix.metal is its faster twin where the scale belongs to the tensor.
//
//     out[token, r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact in int)
//
// Matrices as in matrices.metal; q and s as quantize.metal writes them. For each 64 columns a threadgroup unpacks its rows
// to int8, one word of 16 codes at a time, and copies its tokens; then each thread multiplies four or eight rows with four
// tokens, four columns at a time. Rows in threadgroup memory are five vectors apart instead of four, so that banks differ.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm; 1 adds the residual.
//
// Grid (Σ ⌈rows / TILE_ROWS⌉, ⌈tokens / 64⌉), 256 threads. Reads COLS/4 bytes a row for each tile of tokens and COLS bytes a
// token for each tile of rows; 2·rows·COLS operations a token.
// Constants: those of matrices.metal, GROUPED (0: the scale is the tensor's), GROUP, GROUPS, OUT_STRIDE, R_OFFSET, R_STRIDE,
// EPILOGUE, TILE_ROWS.

#define PITCH 20u
#define OWN_ROWS (TILE_ROWS / 16u)
#define OWN_TOKENS 4u

inline int dot4(char4 a, char4 b) {
    const int4 products = int4(a) * int4(b);
    return products.x + products.y + products.z + products.w;
}

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
    threadgroup char4 row_tile[TILE_ROWS * PITCH];
    threadgroup char4 token_tile[TILE * PITCH];
    const Matrices matrices = {{weights0, weights1, weights2}};
    const Tile tile = tile_of(group);
    const uint last_row = rows_of(tile.matrix) - 1u;
    device const uint* words = words_of(matrices, tile.matrix) + HEADER;
    // What this thread fetches: words of rows, and as many columns of a token.
    const uint fetch = local / 4u;
    const uint part = local % 4u;
    // Past the last row or token, that one stands in.
    device const char4* token_words = q + (min(tile.first_token + fetch, step.count - 1u) * WORDS + part) * 4u;
    // What it computes: rows r, r + 16, …, and tokens t, t + 16, ….
    const uint r = local % 16u;
    const uint t = local / 16u;

    int sums[OWN_ROWS][OWN_TOKENS];
    float totals[OWN_ROWS][OWN_TOKENS];
    for (uint i = 0u; i < OWN_ROWS; i++) {
        for (uint j = 0u; j < OWN_TOKENS; j++) {
            sums[i][j] = 0;
            totals[i][j] = 0.0f;
        }
    }
    for (uint w = 0u; w < WORDS; w += 4u) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint row = fetch; row < TILE_ROWS; row += TILE) {
            const uint word = words[min(tile.first_row + row, last_row) * WORDS + part + w];
            for (uint j = 0u; j < 4u; j++) {
                row_tile[row * PITCH + 4u * part + j] = as_type<char4>((word >> (2u * j)) & PAIRS) - char4(1);
            }
        }
        for (uint j = 0u; j < 4u; j++) {
            token_tile[fetch * PITCH + 4u * part + j] = token_words[4u * w + j];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0u; k < 16u; k++) {
            char4 b[OWN_TOKENS];
            for (uint j = 0u; j < OWN_TOKENS; j++) {
                b[j] = token_tile[(t + 16u * j) * PITCH + k];
            }
            for (uint i = 0u; i < OWN_ROWS; i++) {
                const char4 a = row_tile[(r + 16u * i) * PITCH + k];
                for (uint j = 0u; j < OWN_TOKENS; j++) {
                    sums[i][j] += dot4(a, b[j]);
                }
            }
        }
        const uint columns = (w + 4u) * 16u;
        if (GROUPED == 1u && columns % GROUP == 0u) {
            for (uint i = 0u; i < OWN_ROWS; i++) {
                const uint row = min(tile.first_row + r + 16u * i, last_row);
                const float d = scales_of(matrices, tile.matrix, row)[columns / GROUP - 1u];
                for (uint j = 0u; j < OWN_TOKENS; j++) {
                    totals[i][j] += float(sums[i][j]) * d;
                    sums[i][j] = 0;
                }
            }
        }
    }
    const Target target = {scales, residual, out, step.count, factor_of(matrices, tile.matrix)};
    for (uint i = 0u; i < OWN_ROWS; i++) {
        for (uint j = 0u; j < OWN_TOKENS; j++) {
            const float sum = GROUPED == 1u ? totals[i][j] : float(sums[i][j]);
            store(target, tile.matrix, tile.first_token + t + 16u * j, tile.first_row + r + 16u * i, sum);
        }
    }
}
