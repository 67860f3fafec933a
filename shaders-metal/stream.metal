// What a device's memory gives: VECTORS vectors of four read once, neighbouring threads neighbouring ones, and stored (if
// COPIES) or put together.
//
// Out: VECTORS vectors, or one for each thread. Any grid (threadgroups).
// Constants: VECTORS, COPIES (0 or 1), THREADS.

kernel void stream(
    device const uint4* source [[buffer(0)]],
    device uint4* out [[buffer(1)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint first = group.x * THREADS + local;
    uint4 together = uint4(0u);
    for (uint i = first; i < VECTORS; i += groups.x * THREADS) {
        if (COPIES == 1u) {
            out[i] = source[i];
        } else {
            together ^= source[i];
        }
    }
    if (COPIES == 0u) {
        out[first] = together;
    }
}
