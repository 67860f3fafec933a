// The likeliest of a threadgroup's candidates. Constants: THREADS. Needs the order of top_key.metal.

#define BEST_TEAMS (THREADS / 32u)

// All threads together, with room for one of each simdgroup; the first one's answer counts.
inline uint2 likeliest_of_all(uint2 own, uint local, threadgroup uint2* room) {
    const uint key = simd_max(own.x);
    const uint id = simd_min(own.x == key ? own.y : 0xffffffffu);
    if (local % 32u == 0u) {
        room[local / 32u] = uint2(key, id);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint2 all = room[0];
    for (uint i = 1u; i < BEST_TEAMS; i++) {
        if (before(room[i], all)) {
            all = room[i];
        }
    }
    return all;
}
