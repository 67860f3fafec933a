// One token at a time times up to three ternary matrices, norm and rounding of the token included.
//
//     out[r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact in i32)
//
// The norm and the rounding of the row are repeated by every workgroup: a few thousand numbers that all of them read
// from the cache, against a dispatch and a wait less. So there are few workgroups, and large ones. Weights, and what else a row needs, are asked for before
// that, and come while it runs.
//
// Matrices as in matrices.wgsl.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm. 1 adds the residual at the same place.
// 2 stores gate(row of the first)·(row of the second).
//
// Lines behind `row` stand for each of the EACH neighbouring rows of a team, with # for 0, 1, ….
//
// Grid (⌈rows / (TEAMS·EACH)⌉, tokens). Reads rows·COLS/4 bytes of weights; 2·rows·COLS integer operations.
// Constants: those of matrices.wgsl, GROUP, GROUPS (of a row), OUT_STRIDE, R_OFFSET and R_STRIDE (of the residual),
// EPILOGUE, SILU, EACH, PADDED (words of a row that are multiplied, zeros past WORDS), those of quantize_row.wgsl.

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
fn place(chunk: u32, x: vec4<f32>, gain: vec4<f32>, rounding: Rounding) -> i32 {
    if chunk >= 4u * PADDED {
        return 0;
    }
    let q = rounded4(x, gain, rounding);
    quantized[chunk % 4u * PLANE + chunk / 4u] = packed(q);
    return q.x + q.y + q.z + q.w;
}

// The row of a matrix that has this number among all; past the last row, that row stands in.
fn row_at(index: u32) -> RowAt {
    if EPILOGUE == 2u {
        return RowAt(0u, min(index, ROWS0 - 1u));
    }
    return row_among(index);
}

// What gates a row, or nothing.
fn gating(at: RowAt, lane: u32, own: Share) -> Share {
    if EPILOGUE == 2u {
        return share(1u, at.row, lane);
    }
    return own;
}

// What the end of a row needs beside its sum.
struct End {
    factor: f32,
    // The factor of the second matrix if the first gates it, or the residual, or nothing.
    other: f32,
}

fn end_of(at: RowAt, token: u32) -> End {
    let factor = factor_of(at.matrix);
    if EPILOGUE == 2u {
        return End(factor, factor_of(1u));
    }
    if EPILOGUE == 1u {
        return End(factor, residual[R_OFFSET + token * R_STRIDE + out_of(at.matrix) + at.row]);
    }
    return End(factor, 0.0);
}

// Multiplies a row and stores the product; all invocations together.
fn finish(index: u32, at: RowAt, own: Share, other: Share, end: End, token: u32, local: u32, q_sum: i32, scale: f32) {
    let lane = local % LANES;
    var value = total(own, at.matrix, at.row, lane, local, q_sum) / scale * end.factor;
    if EPILOGUE == 2u {
        let up = total(other, 1u, at.row, lane, local, q_sum) / scale * end.other;
        value = gated4(vec4<f32>(value), vec4<f32>(up)).x;
    }
    let last = select(ROWS0 + ROWS1 + ROWS2, ROWS0, EPILOGUE == 2u);
    if lane == 0u && index < last {
        if EPILOGUE == 1u {
            value = end.other + value;
        }
        out[token * OUT_STRIDE + out_of(at.matrix) + at.row] = value;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.y;
    let lane = local % LANES;
    let first = (group.x * ROWS_AT_ONCE + local / LANES) * EACH;
//row     let at# = row_at(first + #u);
//row     let own# = share(at#.matrix, at#.row, lane);
//row     let other# = gating(at#, lane, own#);
//row     let end# = end_of(at#, token);
    let activations = kept(token, local);

    let rounding = rounding_of(activations, local);
    var q_sum = 0;
//each     q_sum += place(local + @u * THREADS, activations.x@, activations.gain@, rounding);
    q_sum = workgroup_sum_i32(q_sum, local);

//row     finish(first + #u, at#, own#, other#, end#, token, local, q_sum, rounding.scale);
}
