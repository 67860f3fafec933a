// Queries, [tokens, QUERY_HEADS·DIM] f32, four columns at a time, where heads are whole vectors.

@group(0) @binding(0) var<storage, read> queries: array<vec4<f32>>;

fn query4(token: u32, head: u32, chunk: u32) -> vec4<f32> {
    return queries[(token * QUERY_HEADS + head) * DIM4 + chunk];
}
