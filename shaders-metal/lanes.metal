// Sums and maxima over a whole threadgroup, by way of its simdgroups: LANES neighbouring threads each.
//
// All threads of a threadgroup call these together, with room for TEAMS values. There is one barrier inside: what was
// written to threadgroup memory before is seen after. Between two calls with the same room there must be another.
//
// Constants: THREADS (of a threadgroup), LANES (32 on every Apple GPU).

#define TEAMS (THREADS / LANES)

// The sum of all x and the maximum of all y.
inline float2 threadgroup_sum_max(float2 value, uint local, threadgroup float2* room) {
    const float sum = simd_sum(value.x);
    const float most = simd_max(value.y);
    if (local % LANES == 0u) {
        room[local / LANES] = float2(sum, most);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float2 total = room[0];
    for (uint i = 1u; i < TEAMS; i++) {
        total = float2(total.x + room[i].x, max(total.y, room[i].y));
    }
    return total;
}
