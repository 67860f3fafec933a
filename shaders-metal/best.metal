// The likeliest of each SPAN candidates. Repeated until one threadgroup is left to do (likeliest.metal).
//
// Out: [ROWS, threadgroups] pairs of key and id. Grid (⌈COUNT / SPAN⌉, ROWS). Reads 4 or 8 bytes a candidate.
// Constants: COUNT, SPAN, THREADS.

kernel void best(
    device const Given* given [[buffer(0)]],
    device uint2* kept [[buffer(1)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup uint2 room[BEST_TEAMS];
    uint2 own = NOBODY;
    for (uint i = local; i < SPAN; i += THREADS) {
        const uint2 next = candidate(given, group.y, group.x * SPAN + i);
        if (before(next, own)) {
            own = next;
        }
    }
    own = likeliest_of_all(own, local, room);
    if (local == 0u) {
        kept[group.y * groups.x + group.x] = own;
    }
}
