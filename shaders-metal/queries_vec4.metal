// Queries, [tokens, QUERY_HEADS·DIM] f32, four columns at a time, where heads are whole vectors.

inline float4 query4(device const float* queries, uint token, uint head, uint chunk) {
    return ((device const float4*)queries)[(token * QUERY_HEADS + head) * DIM4 + chunk];
}
