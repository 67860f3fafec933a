// Heads of queries and keys normed (if NORM) and turned, in workgroup memory.
//
// Pairs (i, i + HALF) turn together, or (2i, 2i + 1) if INTERLEAVED; columns from 2·HALF on stay. turns: cos and sin of
// [positions][HALF], from position 0.
//
// Constants: DIM, DIM4, HALF, INTERLEAVED, NORM, EPS_Q, EPS_K (bits of f32), THREADS. Needs q_gain, k_gain, turns, and
// raw(which, token, head, column), a number of the queries (0) or keys (1) as they were projected.

// Heads, filled up with zeros to whole vectors.
var<workgroup> heads: array<f32, HEADS * DIM4 * 4u>;

// Four columns of a head.
fn head4(slot: u32, chunk: u32) -> vec4<f32> {
    let i = (slot * DIM4 + chunk) * 4u;
    return vec4<f32>(heads[i], heads[i + 1u], heads[i + 2u], heads[i + 3u]);
}

// A number of a head, normed.
fn normed_of_head(is_key: bool, token: u32, head: u32, i: u32, inverse: f32) -> f32 {
    let value = raw(select(0u, 1u, is_key), token, head, i);
    if NORM == 0u {
        return value;
    }
    if is_key {
        return value * inverse * k_gain[i];
    }
    return value * inverse * q_gain[i];
}

// Fills slot number `slot` by the invocations that have it, numbered `lane` of LANES_OF_HEAD; all invocations together.
fn turn_head(slot: u32, is_key: bool, token: u32, head: u32, position: u32, lane: u32, local: u32) {
    var inverse = 1.0;
    if NORM == 1u {
        var square = 0.0;
        // Each team for itself, so that the sum does not depend on how many there are.
        for (var i = local % LANES; i < DIM; i += LANES) {
            let value = raw(select(0u, 1u, is_key), token, head, i);
            square += value * value;
        }
        let mean = lanes_sum_vec4(vec4<f32>(square, 0.0, 0.0, 0.0), local).x / f32(DIM);
        inverse = 1.0 / sqrt(mean + bitcast<f32>(select(EPS_Q, EPS_K, is_key)));
    }
    let start = slot * DIM4 * 4u;
    for (var i = lane; i < HALF; i += LANES_OF_HEAD) {
        let a = select(i, 2u * i, INTERLEAVED == 1u);
        let b = select(i + HALF, 2u * i + 1u, INTERLEAVED == 1u);
        let turn = turns[position * HALF + i];
        let low = normed_of_head(is_key, token, head, a, inverse);
        let high = normed_of_head(is_key, token, head, b, inverse);
        heads[start + a] = low * turn.x - high * turn.y;
        heads[start + b] = low * turn.y + high * turn.x;
    }
    for (var i = 2u * HALF + lane; i < DIM4 * 4u; i += LANES_OF_HEAD) {
        heads[start + i] = 0.0;
        if i < DIM {
            heads[start + i] = normed_of_head(is_key, token, head, i, inverse);
        }
    }
    workgroupBarrier();
}
