// The KEPT likeliest of each 1024 candidates, in their order: a bitonic sort in threadgroup memory. Repeated until one
// threadgroup is left.
//
// Out: [ROWS, threadgroups, KEPT] pairs of key and id. Grid (⌈COUNT / 1024⌉, ROWS), 256 threads. Reads 4 or 8 bytes a
// candidate.
// Constants: COUNT, KEPT (at most 512).

#define SORTED 1024u

kernel void top(
    device const Given* given [[buffer(0)]],
    device uint2* kept [[buffer(1)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup uint2 sorted[SORTED];
    for (uint i = local; i < SORTED; i += 256u) {
        sorted[i] = candidate(given, group.y, group.x * SORTED + i);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint run = 2u; run <= SORTED; run *= 2u) {
        for (uint apart = run / 2u; apart > 0u; apart /= 2u) {
            for (uint pair = local; pair < SORTED / 2u; pair += 256u) {
                const uint low = pair / apart * apart * 2u + pair % apart;
                const uint high = low + apart;
                const uint2 a = sorted[low];
                const uint2 b = sorted[high];
                const bool rising = (low & run) == 0u;
                if (before(b, a) == rising) {
                    sorted[low] = b;
                    sorted[high] = a;
                }
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
    }
    for (uint i = local; i < KEPT; i += 256u) {
        kept[(group.y * groups.x + group.x) * KEPT + i] = sorted[i];
    }
}
