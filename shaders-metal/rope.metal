// Heads of queries and keys normed and turned (turn.metal), keys and values appended to the cache.
//
// In: x, rows of f32 with q, k and v (q at Q_OFFSET, rows Q_STRIDE apart, and so on); gains of the two norms; the turns. Out:
// queries, [tokens, QUERY_HEADS·DIM]; the cache at the positions of the tokens (place.metal).
//
// Grid (QUERY_HEADS + KV_HEADS, tokens): one threadgroup for a head of queries, or of keys and of values. Moves 4 bytes a
// number.
// Constants: those of turn.metal, QUERY_HEADS, KV_HEADS, offsets and strides, EPS_Q and EPS_K (bits of f32), THREADS.

kernel void rope(
    device const float* x [[buffer(0)]],
    device const float* q_gain [[buffer(1)]],
    device const float* k_gain [[buffer(2)]],
    device const float2* turns [[buffer(3)]],
    device float* queries [[buffer(4)]],
    device Cached* cache [[buffer(5)]],
    device const uint* places [[buffer(6)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float4 turned[DIM4];
    threadgroup float* numbers = (threadgroup float*)turned;
    const uint token = group.y;
    const Place place = place_at(places, token);
    const uint position = place.position;
    const bool is_key = group.x >= QUERY_HEADS;
    const uint head = is_key ? group.x - QUERY_HEADS : group.x;
    if (is_key) {
        const Head key = {x + K_OFFSET + token * K_STRIDE + head * DIM, k_gain, as_type<float>(uint(EPS_K))};
        turn_head(numbers, key, turns, position, local, THREADS);
    } else {
        const Head query = {x + Q_OFFSET + token * Q_STRIDE + head * DIM, q_gain, as_type<float>(uint(EPS_Q))};
        turn_head(numbers, query, turns, position, local, THREADS);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (is_key) {
        device const float* value = x + V_OFFSET + token * V_STRIDE + head * DIM;
        for (uint chunk = local; chunk < DIM4; chunk += THREADS) {
            cache[cache_at(place.blocks, 0u, position, head, chunk)] = stored(turned[chunk]);
            cache[cache_at(place.blocks, 1u, position, head, chunk)] = stored(head4(value, chunk));
        }
    } else {
        for (uint i = local; i < DIM; i += THREADS) {
            queries[token * (QUERY_HEADS * DIM) + head * DIM + i] = numbers[i];
        }
    }
}
