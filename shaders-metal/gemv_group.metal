// The sums of gemv.metal where every GROUP columns have a scale: a lane takes whole groups, and floats are added from the
// first group to the last, as on a CPU.

#define GROUP_WORDS (GROUP / 16u)

// Σ over groups of (Σ (code − 1)·q)·d of each row; all lanes of a simdgroup together.
inline Totals totals_of(Matrices matrices, thread const Place* places, threadgroup const char4* quantized, uint lane) {
    Totals totals;
    for (uint r = 0u; r < EACH; r++) {
        totals.rows[r] = 0.0f;
    }
    for (uint first = 0u; first < GROUPS; first += LANES) {
        // Past the last group, that group stands in, and is not added.
        const uint group = min(first + lane, GROUPS - 1u);
        float sums[EACH];
        for (uint r = 0u; r < EACH; r++) {
            sums[r] = 0.0f;
        }
        float q_sum = 0.0f;
        for (uint i = 0u; i < GROUP_WORDS; i++) {
            const uint w = group * GROUP_WORDS + i;
            const Sixteen x = widened(quantized, w);
            q_sum += sum_of(x);
            for (uint r = 0u; r < EACH; r++) {
                device const uint* words = words_of(matrices, places[r].matrix) + HEADER + places[r].row * WORDS;
                sums[r] += dots(words[w], x);
            }
        }
        for (uint r = 0u; r < EACH; r++) {
            const float scaled = (sums[r] - q_sum) * scales_of(matrices, places[r].matrix, places[r].row)[group];
            for (uint i = 0u; i < min(LANES, GROUPS - first); i++) {
                totals.rows[r] += simd_broadcast(scaled, ushort(i));
            }
        }
    }
    return totals;
}
