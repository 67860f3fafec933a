// Puts the pieces of a context together (pieces.metal).
//
// Out: [tokens, QUERY_HEADS·DIM]. Grid (QUERY_HEADS, tokens), one thread for four columns.
// Constants: those of pieces.metal, DIM, THREADS.

kernel void combine(
    device const float4* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant Step& step [[buffer(2)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint head = group.x;
    const uint token = group.y;
    for (uint chunk = local; chunk < DIM4; chunk += THREADS) {
        const float4 four = together4(x, step, token, head, chunk);
        for (uint c = 0u; c < 4u; c++) {
            if (4u * chunk + c < DIM) {
                out[token * (QUERY_HEADS * DIM) + head * DIM + 4u * chunk + c] = four[c];
            }
        }
    }
}
