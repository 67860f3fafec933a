// Heads of queries and keys normed and turned (turn.wgsl), keys and values appended to the cache.
//
// In: x, rows of f32 with q, k and v (q at Q_OFFSET, rows Q_STRIDE apart, and so on); gains of the two norms; the turns. Out: queries,
// [tokens, QUERY_HEADS·DIM]; the cache at the positions of the tokens (place.wgsl).
//
// Grid (QUERY_HEADS + KV_HEADS, tokens): one workgroup for a head of queries, or of keys and of values. Moves 4 bytes a number.
// Constants: those of turn.wgsl, QUERY_HEADS, KV_HEADS, offsets and strides.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> q_gain: array<f32>;
@group(0) @binding(2) var<storage, read> k_gain: array<f32>;
@group(0) @binding(3) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> queries: array<f32>;
@group(0) @binding(5) var<storage, read_write> cache: array<Cached>;

const HEADS: u32 = 1u;
const LANES_OF_HEAD: u32 = THREADS;

fn raw(which: u32, token: u32, head: u32, i: u32) -> f32 {
    if which == 0u {
        return x[Q_OFFSET + token * Q_STRIDE + head * DIM + i];
    }
    return x[K_OFFSET + token * K_STRIDE + head * DIM + i];
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.y;
    let is_key = group.x >= QUERY_HEADS;
    let head = select(group.x, group.x - QUERY_HEADS, is_key);
    let position = places[4u * token];
    blocks_at = places[4u * token + 1u];
    turn_head(0u, is_key, token, head, position, local, local);
    if is_key {
        for (var chunk = local; chunk < DIM4; chunk += THREADS) {
            cache[cache_at(0u, position, head, chunk)] = stored(head4(0u, chunk));
            var value = vec4<f32>();
            for (var c = 0u; c < 4u; c++) {
                if 4u * chunk + c < DIM {
                    value[c] = x[V_OFFSET + token * V_STRIDE + head * DIM + 4u * chunk + c];
                }
            }
            cache[cache_at(1u, position, head, chunk)] = stored(value);
        }
    } else {
        for (var i = local; i < DIM; i += THREADS) {
            queries[token * (QUERY_HEADS * DIM) + head * DIM + i] = heads[i];
        }
    }
}
