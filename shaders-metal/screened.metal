// The logits of the rows that could be the highest (screen.metal), as dense.metal computes them, and of each SPAN rows the
// likeliest.
//
// In: a row of x, the table, most and least. Out: logits, those that are computed; kept, [threadgroups] pairs of key and id.
// Grid (⌈ROWS / SPAN⌉). Reads 4 bytes a row, and the rows that count.
// Constants: those of the format's file, ROWS, SPANS, SPAN, LEASTS (how many there are), THREADS, LANES.

#define LOWEST (-3.4028234e38f)

// Whether the logit of a row may be among those of at least `limit`; so may one of which nothing is known.
inline bool counts(float highest, float limit) {
    return highest >= limit || (as_type<uint>(highest) & 0x7f800000u) == 0x7f800000u;
}

kernel void screened(
    device const float* x [[buffer(0)]],
    device const uint* table [[buffer(2)]],
    device const float* most [[buffer(3)]],
    device const float* least [[buffer(4)]],
    device uint* logits [[buffer(5)]],
    device uint2* kept [[buffer(6)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
    threadgroup uint2 best_room[BEST_TEAMS];
    // Rows that count, those of each simdgroup beside each other in the order of their lanes.
    threadgroup uint chosen[SPAN];
    threadgroup uint team_counts[TEAMS];
    float own = LOWEST;
    for (uint i = local; i < LEASTS; i += THREADS) {
        own = max(own, least[i]);
    }
    const float limit = threadgroup_sum_max(float2(0.0f, own), local, room).y;
    const uint team = local / LANES;
    const uint lane = local % LANES;
    // A simdgroup looks at a part of the rows, and lays those that count down from where the part begins.
    const uint part = SPAN / TEAMS;
    uint count = 0u;
    for (uint i = lane; i < part; i += LANES) {
        const uint row = group.x * SPAN + team * part + i;
        const uint found = row < ROWS && counts(most[min(row, ROWS - 1u)], limit) ? 1u : 0u;
        const uint place = simd_prefix_exclusive_sum(found);
        if (found == 1u) {
            chosen[team * part + count + place] = row;
        }
        count += simd_sum(found);
    }
    if (lane == 0u) {
        team_counts[team] = count;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float factor = header_of(table, 0u);
    uint2 likeliest = NOBODY;
    // The rows of all parts, dealt out to the simdgroups in turn.
    uint turn = 0u;
    for (uint other = 0u; other < TEAMS; other++) {
        for (uint i = 0u; i < team_counts[other]; i++) {
            if (turn++ % TEAMS != team) {
                continue;
            }
            const uint row = chosen[other * part + i];
            float sum = 0.0f;
            for (uint span = lane; span < SPANS; span += LANES) {
                sum += span_dot(table, row, span, x, 0u);
            }
            const uint logit = as_type<uint>(simd_sum(sum) * factor);
            if (lane == 0u) {
                logits[row] = logit;
            }
            const uint2 next = uint2(key_of(logit), row);
            if (before(next, likeliest)) {
                likeliest = next;
            }
        }
    }
    likeliest = likeliest_of_all(likeliest, local, best_room);
    if (local == 0u) {
        kept[group.x] = likeliest;
    }
}
