// What becomes of the sums of gemm.metal and gemm_matrix.metal.

#define TILE TILE_TOKENS

struct Tile {
    uint matrix;
    uint first_row;
    uint first_token;
};

inline uint tiles_of(uint rows) {
    return (rows + TILE_ROWS - 1u) / TILE_ROWS;
}

inline Tile tile_of(uint3 group) {
    uint matrix = 0u;
    uint tile = group.x;
    if (tile >= tiles_of(ROWS0) + tiles_of(ROWS1)) {
        matrix = 2u;
        tile -= tiles_of(ROWS0) + tiles_of(ROWS1);
    } else if (tile >= tiles_of(ROWS0)) {
        matrix = 1u;
        tile -= tiles_of(ROWS0);
    }
    return Tile{matrix, tile * TILE_ROWS, group.y * TILE};
}

// Where the product of a row of a matrix with a token goes, and what to.
struct Target {
    device const float* scales;
    device const float* residual;
    device float* out;
    uint tokens;
    float factor;
};

inline void store(Target target, uint matrix, uint token, uint row, float sum) {
    if (token < target.tokens && row < rows_of(matrix)) {
        const uint column = out_of(matrix) + row;
        float value = sum / target.scales[token] * target.factor;
        if (EPILOGUE == 1u) {
            value = target.residual[R_OFFSET + token * R_STRIDE + column] + value;
        }
        target.out[token * OUT_STRIDE + column] = value;
    }
}
