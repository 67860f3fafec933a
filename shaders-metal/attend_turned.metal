// For attend.metal: queries that are turned already, keys and values that are all in the cache.

#define TURNING 0

// What attention begins with.
struct Given {
    device const float* queries;
    device const Cached* cache;
};

// Brings the head's queries, divided by √DIM, to threadgroup memory. What is there after a barrier is seen by all.
inline void prepare(Given given, uint token, uint head, uint local, threadgroup float4* query) {
    for (uint chunk = local; chunk < DIM4; chunk += THREADS) {
        query[chunk] = query4(given.queries, token, head, chunk) * (1.0f / sqrt(float(DIM)));
    }
}

// Four columns of a key (`which` 0) or a value (1).
inline float4 loaded(Given given, Place place, uint which, uint position, uint kv_head, uint chunk) {
    return float4(given.cache[cache_at(place.blocks, which, position, kv_head, chunk)]);
}
