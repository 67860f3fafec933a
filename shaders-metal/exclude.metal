// Takes listed tokens out of the logits: each listed logit that is a finite number goes to the answer, and a mark to its
// place. Those that are not finite stay, to be found (top.metal).
//
// In: the tokens listed for each row (asked.metal); logits [ROWS, VOCABULARY]. Out: answer, [ROWS][entries] pairs of id and bits of
// the logit, the listed ones from place KEPT on. Grid (⌈most of a row / THREADS⌉, ROWS). Moves 16 bytes a listed token.
// Constants: VOCABULARY, KEPT, THREADS.

kernel void exclude(
    device const uint* asked [[buffer(0)]],
    device uint* logits [[buffer(1)]],
    device uint2* answer [[buffer(2)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint row = group.y;
    const uint place = group.x * THREADS + local;
    if (place >= asked[7u + 4u * row]) {
        return;
    }
    const uint id = asked[asked[6u + 4u * row] + place];
    const uint bits = logits[row * VOCABULARY + id];
    answer[row * asked[1] + KEPT + place] = uint2(id, bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) {
        logits[row * VOCABULARY + id] = MARK;
    }
}
