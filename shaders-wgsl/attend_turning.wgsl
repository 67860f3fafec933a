// For attend.wgsl and one token: queries, key and value as they were projected. Every workgroup turns its queries, and the key
// if its piece is the last; the first of those that share a key appends it and the value to the cache, which nobody reads
// there, and the first of a head's stores the queries.
//
// In: x, the row with q, k and v at Q_OFFSET, K_OFFSET and V_OFFSET; gains of the two norms; the turns (turn.wgsl).
// Out: the cache at position step.first; queries, [QUERY_HEADS·DIM].

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> cache: array<Cached>;
@group(0) @binding(4) var<storage, read_write> queries: array<f32>;
@group(0) @binding(5) var<storage, read> q_gain: array<f32>;
@group(0) @binding(6) var<storage, read> k_gain: array<f32>;
@group(0) @binding(7) var<storage, read> turns: array<vec2<f32>>;

const HEADS: u32 = 2u;
const LANES_OF_HEAD: u32 = THREADS / 2u;

var<workgroup> query: array<vec4<f32>, DIM4>;

fn raw(which: u32, token: u32, head: u32, i: u32) -> f32 {
    return x[select(Q_OFFSET, K_OFFSET, which == 1u) + head * DIM + i];
}

// Four columns of the new value.
fn appended4(kv_head: u32, chunk: u32) -> vec4<f32> {
    var value = vec4<f32>();
    for (var c = 0u; c < 4u; c++) {
        if 4u * chunk + c < DIM {
            value[c] = x[V_OFFSET + kv_head * DIM + 4u * chunk + c];
        }
    }
    return value;
}

// Turns the head's queries and its key, and brings the queries, divided by √DIM, to all invocations.
fn prepare(token: u32, head: u32, kv_head: u32, local: u32, begin: u32, end: u32) {
    let slot = local / LANES_OF_HEAD;
    let is_key = slot == 1u;
    turn_head(slot, is_key, token, select(head, kv_head, is_key), step.first, local % LANES_OF_HEAD, local);
    for (var chunk = local; chunk < DIM4; chunk += THREADS) {
        query[chunk] = head4(0u, chunk) * (1.0 / sqrt(f32(DIM)));
        if end > step.first && head % (QUERY_HEADS / KV_HEADS) == 0u {
            cache[cache_at(0u, step.first, kv_head, chunk)] = stored(head4(1u, chunk));
            cache[cache_at(1u, step.first, kv_head, chunk)] = stored(appended4(kv_head, chunk));
        }
    }
    if begin == 0u {
        for (var i = local; i < DIM; i += THREADS) {
            queries[head * DIM + i] = heads[i];
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
    if position == step.first {
        return loaded(stored(head4(1u, chunk)));
    }
    return key;
}

fn value_at(position: u32, kv_head: u32, chunk: u32) -> vec4<f32> {
    if position == step.first {
        return loaded(stored(appended4(kv_head, chunk)));
    }
    return cached(1u, position, kv_head, chunk);
}
