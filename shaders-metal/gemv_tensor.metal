// The sums of gemv.metal where the scale belongs to the tensor: words of a row go to lanes in turn, so that a simdgroup
// reads 128 neighbouring bytes of each row at a time.

// Σ (code − 1)·q of each row; all lanes of a simdgroup together. A lane's own sums are whole numbers below 2²⁴ up to a
// million columns, and are added up as integers.
inline Totals totals_of(Matrices matrices, thread const Place* places, threadgroup const char4* quantized, uint lane) {
    device const uint* words[EACH];
    float sums[EACH];
    for (uint r = 0u; r < EACH; r++) {
        words[r] = words_of(matrices, places[r].matrix) + HEADER + places[r].row * WORDS;
        sums[r] = 0.0f;
    }
    float q_sum = 0.0f;
    for (uint w = lane; w < WORDS; w += LANES) {
        const Sixteen x = widened(quantized, w);
        q_sum += sum_of(x);
        for (uint r = 0u; r < EACH; r++) {
            sums[r] += dots(words[r][w], x);
        }
    }
    Totals totals;
    for (uint r = 0u; r < EACH; r++) {
        totals.rows[r] = float(simd_sum(int(sums[r] - q_sum)));
    }
    return totals;
}
