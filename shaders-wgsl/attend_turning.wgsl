// For attend.wgsl and tokens of as many sequences: queries, key and value as they were projected. Every workgroup turns its queries, and the key
// if its piece is the last; the first of those that share a key appends it and the value to the cache, which nobody reads
// there.
//
// In: x, rows with q, k and v at Q_OFFSET, K_OFFSET and V_OFFSET; gains of the two norms; the turns (turn.wgsl).
// Out: the cache at the token's position.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> cache: array<Cached>;
@group(0) @binding(5) var<storage, read> q_gain: array<f32>;
@group(0) @binding(6) var<storage, read> k_gain: array<f32>;
@group(0) @binding(7) var<storage, read> turns: array<vec2<f32>>;

const HEADS: u32 = 2u;
const LANES_OF_HEAD: u32 = THREADS / 2u;

var<workgroup> query: array<vec4<f32>, DIM4>;

fn raw(which: u32, token: u32, head: u32, i: u32) -> f32 {
    return x[select(Q_OFFSET, K_OFFSET, which == 1u) + token * Q_STRIDE + head * DIM + i];
}

// Four columns of the new value.
fn appended4(token: u32, kv_head: u32, chunk: u32) -> vec4<f32> {
    var value = vec4<f32>();
    for (var c = 0u; c < 4u; c++) {
        if 4u * chunk + c < DIM {
            value[c] = x[V_OFFSET + token * V_STRIDE + kv_head * DIM + 4u * chunk + c];
        }
    }
    return value;
}

// Turns the head's queries and its key, and brings the queries, divided by √DIM, to all invocations.
fn prepare(token: u32, head: u32, kv_head: u32, local: u32, begin: u32, end: u32) {
    let slot = local / LANES_OF_HEAD;
    let is_key = slot == 1u;
    turn_head(slot, is_key, token, select(head, kv_head, is_key), own_position, local % LANES_OF_HEAD, local);
    for (var chunk = local; chunk < DIM4; chunk += THREADS) {
        query[chunk] = head4(0u, chunk) * (1.0 / sqrt(f32(DIM)));
        if end > own_position && head % (QUERY_HEADS / KV_HEADS) == 0u {
            cache[cache_at(0u, own_position, kv_head, chunk)] = stored(head4(1u, chunk));
            cache[cache_at(1u, own_position, kv_head, chunk)] = stored(appended4(token, kv_head, chunk));
        }
    }
    workgroupBarrier();
}

// Four columns of the queries, zeros past the last.
fn query_at(chunk: u32) -> vec4<f32> {
    return select(vec4<f32>(), query[min(chunk, DIM4 - 1u)], chunk < DIM4);
}

// Of the key at this position, of which the cache held `key`: nothing yet, if it is the new one.
fn key_at(position: u32, key: vec4<f32>, chunk: u32) -> vec4<f32> {
    if position == own_position {
        return loaded(stored(head4(1u, chunk)));
    }
    return key;
}

fn value_at(token: u32, position: u32, kv_head: u32, chunk: u32) -> vec4<f32> {
    if position == own_position {
        return loaded(stored(appended4(token, kv_head, chunk)));
    }
    return cached(1u, position, kv_head, chunk);
}
