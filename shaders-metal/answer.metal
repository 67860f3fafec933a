// The kept candidates with their logits, and the likeliest of the last row as the token that comes next.
//
// In: kept, [ROWS, KEPT] pairs of key and id; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][step.entries] pairs of id and bits
// of the logit, the kept ones first, with the id 2³² − 1 where there are fewer; chosen, the one word.
// One threadgroup for a row: grid (ROWS). Constants: VOCABULARY, KEPT, THREADS.

kernel void answer(
    device const uint2* kept [[buffer(0)]],
    device const uint* logits [[buffer(1)]],
    device uint2* answers [[buffer(2)]],
    device uint* chosen [[buffer(3)]],
    constant Step& step [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint row = group.x;
    for (uint i = local; i < KEPT; i += THREADS) {
        const uint2 found = kept[row * KEPT + i];
        uint2 pair = uint2(0xffffffffu, 0u);
        // The key of a marked logit and of nobody.
        if (found.x != 0u) {
            pair = uint2(found.y, logits[row * VOCABULARY + found.y]);
            if (i == 0u && row == groups.x - 1u) {
                chosen[0] = found.y;
            }
        }
        answers[row * step.entries + i] = pair;
    }
}
