// The tile of products that a workgroup of gemm.wgsl or gemm_matrix.wgsl has, and where they go.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm; 1 adds the residual.
//
// Constants: those of matrices.wgsl, OUT_STRIDE, R_OFFSET, R_STRIDE, EPILOGUE, TILE_ROWS, TILE_TOKENS.

@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<uniform> step: Step;

struct Tile {
    matrix: u32,
    first_row: u32,
    first_token: u32,
}

fn tiles_of(rows: u32) -> u32 {
    return (rows + TILE_ROWS - 1u) / TILE_ROWS;
}

fn tile_of(group: vec3<u32>) -> Tile {
    let first_token = group.y * TILE_TOKENS;
    let first = tiles_of(ROWS0);
    let second = first + tiles_of(ROWS1);
    if group.x >= second {
        return Tile(2u, (group.x - second) * TILE_ROWS, first_token);
    }
    if group.x >= first {
        return Tile(1u, (group.x - first) * TILE_ROWS, first_token);
    }
    return Tile(0u, group.x * TILE_ROWS, first_token);
}

// Stores a product, if there is such a token and row.
fn store(matrix: u32, token: u32, row: u32, sum: f32, factor: f32) {
    if token < step.count && row < rows_of(matrix) {
        let column = out_of(matrix) + row;
        var value = sum / scales[token] * factor;
        if EPILOGUE == 1u {
            value = residual[R_OFFSET + token * R_STRIDE + column] + value;
        }
        out[token * OUT_STRIDE + column] = value;
    }
}
