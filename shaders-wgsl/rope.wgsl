// Heads of queries and keys normed (if NORM) and rotated, keys and values appended to the cache.
//
// In: q, k and v, rows of f32 (q at Q_OFFSET, rows Q_STRIDE apart, and so on); gains of the two norms; the turns, cos and sin
// of [positions][HALF], from position 0. Out: queries, [tokens, QUERY_HEADS·DIM]; the cache's positions first, first + 1, ….
//
// Pairs (i, i + HALF) turn together, or (2i, 2i + 1) if INTERLEAVED; columns from 2·HALF on stay.
//
// Grid (QUERY_HEADS + KV_HEADS, tokens): one workgroup for a head of queries, or of keys and of values. Moves 4 bytes a number.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, HALF, INTERLEAVED, offsets and strides, NORM, EPS_Q, EPS_K, THREADS.

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> q_gain: array<f32>;
@group(0) @binding(4) var<storage, read> k_gain: array<f32>;
@group(0) @binding(5) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> queries: array<f32>;
@group(0) @binding(7) var<storage, read_write> cache: array<Cached>;
@group(0) @binding(8) var<uniform> step: Step;

// A head, filled up with zeros to whole vectors.
var<workgroup> values: array<f32, DIM4 * 4u>;

fn turned(local: u32, position: u32) {
    for (var i = local; i < HALF; i += THREADS) {
        let a = select(i, 2u * i, INTERLEAVED == 1u);
        let b = select(i + HALF, 2u * i + 1u, INTERLEAVED == 1u);
        let turn = turns[position * HALF + i];
        let low = values[a];
        let high = values[b];
        values[a] = low * turn.x - high * turn.y;
        values[b] = low * turn.y + high * turn.x;
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.y;
    let is_key = group.x >= QUERY_HEADS;
    let head = select(group.x, group.x - QUERY_HEADS, is_key);
    var square = 0.0;
    for (var i = local; i < DIM4 * 4u; i += THREADS) {
        var value = 0.0;
        if i < DIM {
            if is_key {
                value = k[K_OFFSET + token * K_STRIDE + head * DIM + i];
            } else {
                value = q[Q_OFFSET + token * Q_STRIDE + head * DIM + i];
            }
        }
        values[i] = value;
        square += value * value;
    }
    if NORM == 1u {
        let eps = bitcast<f32>(select(EPS_Q, EPS_K, is_key));
        let mean = workgroup_sum_max(vec2<f32>(square, 0.0), local).x / f32(DIM);
        let inverse = 1.0 / sqrt(mean + eps);
        for (var i = local; i < DIM; i += THREADS) {
            values[i] = values[i] * inverse * select(q_gain[i], k_gain[i], is_key);
        }
    }
    workgroupBarrier();
    turned(local, step.first + token);
    if is_key {
        let position = step.first + token;
        for (var chunk = local; chunk < DIM4; chunk += THREADS) {
            let i = 4u * chunk;
            let key = vec4<f32>(values[i], values[i + 1u], values[i + 2u], values[i + 3u]);
            cache[cache_at(0u, position, head, chunk)] = stored(key);
            var value = vec4<f32>();
            for (var c = 0u; c < 4u; c++) {
                if i + c < DIM {
                    value[c] = v[V_OFFSET + token * V_STRIDE + head * DIM + i + c];
                }
            }
            cache[cache_at(1u, position, head, chunk)] = stored(value);
        }
    } else {
        for (var i = local; i < DIM; i += THREADS) {
            queries[token * (QUERY_HEADS * DIM) + head * DIM + i] = values[i];
        }
    }
}
