// One token at a time times up to three ternary matrices, norm and rounding of the token included.
//
//     out[r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact in i32)
//
// The norm and the rounding of the row are repeated by every workgroup: a few thousand numbers that all of them read
// from the cache, against a dispatch and a wait less. Weights are asked for before that, and come while it runs.
//
// Matrices as in matrices.wgsl.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm. 1 adds the residual at the same place.
// 2 stores gate(row of the first)·(row of the second).
//
// Grid (⌈rows / TEAMS⌉, tokens). Reads rows·COLS/4 bytes of weights; 2·rows·COLS integer operations.
// Constants: those of matrices.wgsl, GROUP, GROUPS (of a row), OUT_STRIDE, R_OFFSET and R_STRIDE (of the residual),
// EPILOGUE, SILU, PADDED (words of a row that are multiplied, zeros past WORDS), those of quantize_row.wgsl.

@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const ROWS_AT_ONCE: u32 = THREADS / LANES;
// Word j of four columns of word w of a row lies at j·PLANE + w; eight words apart, so that banks differ.
const PLANE: u32 = PADDED + 8u;

var<workgroup> quantized: array<u32, 4u * PLANE>;

fn dots(codes: u32, w: u32) -> i32 {
    return dot4(codes & PAIRS, quantized[w])
        + dot4((codes >> 2u) & PAIRS, quantized[PLANE + w])
        + dot4((codes >> 4u) & PAIRS, quantized[2u * PLANE + w])
        + dot4((codes >> 6u) & PAIRS, quantized[3u * PLANE + w]);
}

// Puts four columns of the rounded row to their place, and adds them up.
fn place(chunk: u32, x: vec4<f32>, rounding: Rounding) -> i32 {
    if chunk >= 4u * PADDED {
        return 0;
    }
    let q = rounded4(x, chunk, rounding);
    quantized[chunk % 4u * PLANE + chunk / 4u] = packed(q);
    return q.x + q.y + q.z + q.w;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.y;
    let lane = local % LANES;
    let index = group.x * ROWS_AT_ONCE + local / LANES;
    var matrix = 0u;
    // Past the last row, that row stands in.
    var row = min(index, ROWS0 - 1u);
    if EPILOGUE != 2u {
        row = min(index, ROWS0 + ROWS1 + ROWS2 - 1u);
        if row >= ROWS0 + ROWS1 {
            matrix = 2u;
            row -= ROWS0 + ROWS1;
        } else if row >= ROWS0 {
            matrix = 1u;
            row -= ROWS0;
        }
    }
    let activations = kept(token, local);
    let own = share(matrix, row, lane);
    var other = own;
    if EPILOGUE == 2u {
        other = share(1u, row, lane);
    }

    let rounding = rounding_of(activations, local);
    var q_sum = 0;
//each     q_sum += place(local + @u * THREADS, activations.x@, rounding);
    q_sum = workgroup_sum_i32(q_sum, local);

    var value = total(own, matrix, row, lane, local, q_sum) / rounding.scale * factor_of(matrix);
    if EPILOGUE == 2u {
        let up = total(other, 1u, row, lane, local, q_sum) / rounding.scale * factor_of(1u);
        value = gated4(vec4<f32>(value), vec4<f32>(up)).x;
    }
    let last = select(ROWS0 + ROWS1 + ROWS2, ROWS0, EPILOGUE == 2u);
    if lane == 0u && index < last {
        let column = out_of(matrix) + row;
        if EPILOGUE == 1u {
            value = residual[R_OFFSET + token * R_STRIDE + column] + value;
        }
        out[token * OUT_STRIDE + column] = value;
    }
}
