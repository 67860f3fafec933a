// Queries, [tokens, QUERY_HEADS·DIM] f32, four columns at a time, with zeros past the last: queries_vec4.wgsl for heads whose
// width is no multiple of four.

@group(0) @binding(0) var<storage, read> queries: array<f32>;

fn query4(token: u32, head: u32, chunk: u32) -> vec4<f32> {
    let first = (token * QUERY_HEADS + head) * DIM;
    var four = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if 4u * chunk + i < DIM {
            four[i] = queries[first + 4u * chunk + i];
        }
    }
    return four;
}
