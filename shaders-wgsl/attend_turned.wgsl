// For attend.wgsl: queries that are turned already, keys and values that are all in the cache.

@group(0) @binding(1) var<storage, read> cache: array<Cached>;

var<workgroup> query: array<vec4<f32>, DIM4>;

// Brings the head's queries, divided by √DIM, to all invocations.
fn prepare(token: u32, head: u32, kv_head: u32, local: u32, begin: u32, end: u32) {
    for (var chunk = local; chunk < DIM4; chunk += THREADS) {
        query[chunk] = query4(token, head, chunk) * (1.0 / sqrt(f32(DIM)));
    }
    workgroupBarrier();
}

// Four columns of the queries, zeros past the last.
fn query_at(chunk: u32) -> vec4<f32> {
    return select(vec4<f32>(), query[min(chunk, DIM4 - 1u)], chunk < DIM4);
}

fn key_at(position: u32, key: vec4<f32>, chunk: u32) -> vec4<f32> {
    return key;
}

fn value_at(token: u32, position: u32, kv_head: u32, chunk: u32) -> vec4<f32> {
    return cached(1u, position, kv_head, chunk);
}
