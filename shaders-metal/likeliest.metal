// The likeliest of the last candidates with its logit: the answer, and the token that comes next in its sequence.
//
// In: candidates; logits [ROWS, VOCABULARY]. Out: answers, [ROWS][entries] pairs of id and bits of the logit, this one
// first, with the id 2³² − 1 if there is none; likeliest_of, a word for each sequence (asked.metal).
// One threadgroup for a row: grid (ROWS). Reads 8 bytes a candidate. Constants: COUNT, VOCABULARY, THREADS.

kernel void likeliest(
    device const Given* given [[buffer(0)]],
    device const uint* logits [[buffer(1)]],
    device uint2* answers [[buffer(2)]],
    device uint* likeliest_of [[buffer(3)]],
    device const uint* asked [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup uint2 room[BEST_TEAMS];
    const uint row = group.x;
    uint2 own = NOBODY;
    for (uint i = local; i < COUNT; i += THREADS) {
        const uint2 next = candidate(given, row, i);
        if (before(next, own)) {
            own = next;
        }
    }
    own = likeliest_of_all(own, local, room);
    if (local != 0u) {
        return;
    }
    uint2 pair = uint2(0xffffffffu, 0u);
    // The key of a marked logit and of nobody is 0.
    if (own.x != 0u) {
        pair = uint2(own.y, logits[row * VOCABULARY + own.y]);
        keep_likeliest(asked, likeliest_of, row, own.y);
    }
    answers[row * entries(asked)] = pair;
}
