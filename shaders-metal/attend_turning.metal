// For attend.metal and tokens of as many sequences: queries, key and value as they were projected. Every threadgroup turns its queries and the
// key; the first of those that share a key appends it and the value to the cache, which nobody reads there.
//
// In: x, rows with q, k and v at Q_OFFSET, K_OFFSET and V_OFFSET; gains of the two norms; the turns (turn.metal).
// Out: the cache at the token's position.

#define TURNING 1

// What attention begins with, and the key and the value of this token, as the cache will hold them.
struct Given {
    device const Cached* cache;
    threadgroup const float4* fresh;
};

// Where the rows and what turns them lie, and what is stored.
struct Turning {
    device const float* x;
    device Cached* cache;
    device const float* q_gain;
    device const float* k_gain;
    device const float2* turns;
};

// Turns the head's queries into `query`, divided by √DIM, and its key, beside its value, into `fresh`, by way of `turned`, which
// has room for two heads. What is there after a barrier is seen by all.
inline void prepare(
    Turning turning,
    Place place,
    uint token,
    uint head,
    bool is_last,
    uint local,
    threadgroup float4* turned,
    threadgroup float4* query,
    threadgroup float4* fresh)
{
    const uint kv_head = head / (QUERY_HEADS / KV_HEADS);
    const Head queries = {turning.x + Q_OFFSET + token * Q_STRIDE + head * DIM, turning.q_gain, as_type<float>(uint(EPS_Q))};
    const Head key = {turning.x + K_OFFSET + token * K_STRIDE + kv_head * DIM, turning.k_gain, as_type<float>(uint(EPS_K))};
    device const float* value = turning.x + V_OFFSET + token * V_STRIDE + kv_head * DIM;
    // Half of the simdgroups for each.
    const uint half_of = local / (THREADS / 2u);
    const uint index = local % (THREADS / 2u);
    threadgroup float* numbers = (threadgroup float*)(turned + half_of * DIM4);
    if (half_of == 0u) {
        turn_head(numbers, queries, turning.turns, place.position, index, THREADS / 2u);
    } else {
        turn_head(numbers, key, turning.turns, place.position, index, THREADS / 2u);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint chunk = local; chunk < DIM4; chunk += THREADS) {
        const Cached new_key = stored(turned[DIM4 + chunk]);
        const Cached new_value = stored(head4(value, chunk));
        query[chunk] = turned[chunk] * (1.0f / sqrt(float(DIM)));
        fresh[chunk] = float4(new_key);
        fresh[DIM4 + chunk] = float4(new_value);
        if (is_last && head % (QUERY_HEADS / KV_HEADS) == 0u) {
            turning.cache[cache_at(place.blocks, 0u, place.position, kv_head, chunk)] = new_key;
            turning.cache[cache_at(place.blocks, 1u, place.position, kv_head, chunk)] = new_value;
        }
    }
}

// Four columns of a key (`which` 0) or a value (1).
inline float4 loaded(Given given, Place place, uint which, uint position, uint kv_head, uint chunk) {
    if (position == place.position) {
        return given.fresh[which * DIM4 + chunk];
    }
    return float4(given.cache[cache_at(place.blocks, which, position, kv_head, chunk)]);
}
