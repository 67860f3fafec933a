// For attend.metal and one token: queries, key and value as they were projected. Every threadgroup turns its queries and the
// key; the first of those that share a key appends it and the value to the cache, which nobody reads there, and the first of a
// head's stores the queries.
//
// In: x, the row with q, k and v at Q_OFFSET, K_OFFSET and V_OFFSET; gains of the two norms; the turns (turn.metal).
// Out: the cache at position step.first; queries, [QUERY_HEADS·DIM].

#define TURNING 1

// What attention begins with, and the key and the value of this token, as the cache will hold them.
struct Given {
    device const Cached* cache;
    threadgroup const float4* fresh;
};

// Where the row and what turns it lie, and what is stored.
struct Turning {
    device const float* x;
    device Cached* cache;
    device float* queries;
    device const float* q_gain;
    device const float* k_gain;
    device const float2* turns;
};

// Turns the head's queries into `query`, divided by √DIM, and its key, beside its value, into `fresh`, by way of `turned`, which
// has room for two heads. What is there after a barrier is seen by all.
inline void prepare(
    Turning turning,
    constant Step& step,
    uint head,
    bool is_first,
    bool is_last,
    uint local,
    threadgroup float4* turned,
    threadgroup float4* query,
    threadgroup float4* fresh)
{
    const uint kv_head = head / (QUERY_HEADS / KV_HEADS);
    const Head queries = {turning.x + Q_OFFSET + head * DIM, turning.q_gain, as_type<float>(uint(EPS_Q))};
    const Head key = {turning.x + K_OFFSET + kv_head * DIM, turning.k_gain, as_type<float>(uint(EPS_K))};
    device const float* value = turning.x + V_OFFSET + kv_head * DIM;
    // Half of the simdgroups for each.
    const uint half_of = local / (THREADS / 2u);
    const uint index = local % (THREADS / 2u);
    threadgroup float* numbers = (threadgroup float*)(turned + half_of * DIM4);
    if (half_of == 0u) {
        turn_head(numbers, queries, turning.turns, step.first, index, THREADS / 2u);
    } else {
        turn_head(numbers, key, turning.turns, step.first, index, THREADS / 2u);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint chunk = local; chunk < DIM4; chunk += THREADS) {
        const Cached new_key = stored(turned[DIM4 + chunk]);
        const Cached new_value = stored(head4(value, chunk));
        query[chunk] = turned[chunk] * (1.0f / sqrt(float(DIM)));
        fresh[chunk] = float4(new_key);
        fresh[DIM4 + chunk] = float4(new_value);
        if (is_last && head % (QUERY_HEADS / KV_HEADS) == 0u) {
            turning.cache[cache_at(step.room, 0u, step.first, kv_head, chunk)] = new_key;
            turning.cache[cache_at(step.room, 1u, step.first, kv_head, chunk)] = new_value;
        }
    }
    if (is_first) {
        threadgroup const float* all = (threadgroup const float*)turned;
        for (uint i = local; i < DIM; i += THREADS) {
            turning.queries[head * DIM + i] = all[i];
        }
    }
}

// Four columns of a key (`which` 0) or a value (1).
inline float4 loaded(Given given, constant Step& step, uint which, uint position, uint kv_head, uint chunk) {
    if (position == step.first) {
        return given.fresh[which * DIM4 + chunk];
    }
    return float4(given.cache[cache_at(step.room, which, position, kv_head, chunk)]);
}
