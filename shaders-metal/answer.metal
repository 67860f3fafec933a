// The kept candidates with their logits, and the likeliest as the token that comes next in its sequence.
//
// In: kept, [ROWS, KEPT] pairs of key and id; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][entries] pairs of id and bits
// of the logit, the kept ones first, with the id 2³² − 1 where there are fewer; likeliest_of, a word for each sequence (asked.metal).
// One threadgroup for a row: grid (ROWS). Constants: VOCABULARY, KEPT, THREADS.

kernel void answer(
    device const uint2* kept [[buffer(0)]],
    device const uint* logits [[buffer(1)]],
    device uint2* answers [[buffer(2)]],
    device uint* likeliest_of [[buffer(3)]],
    device const uint* asked [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint row = group.x;
    for (uint i = local; i < KEPT; i += THREADS) {
        const uint2 found = kept[row * KEPT + i];
        uint2 pair = uint2(0xffffffffu, 0u);
        // The key of a marked logit and of nobody.
        if (found.x != 0u) {
            pair = uint2(found.y, logits[row * VOCABULARY + found.y]);
            if (i == 0u) {
                keep_likeliest(asked, likeliest_of, row, found.y);
            }
        }
        answers[row * entries(asked) + i] = pair;
    }
}
