// Queries, [tokens, QUERY_HEADS·DIM] f32, four columns at a time, with zeros past the last: queries_vec4.metal for heads
// whose width is no multiple of four.

inline float4 query4(device const float* queries, uint token, uint head, uint chunk) {
    device const float* query = queries + (token * QUERY_HEADS + head) * DIM;
    float4 four = float4(0.0f);
    for (uint i = 0u; i < 4u; i++) {
        if (4u * chunk + i < DIM) {
            four[i] = query[4u * chunk + i];
        }
    }
    return four;
}
