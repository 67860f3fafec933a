// Attention of a context in pieces (attend.metal), put together: for each token, head of queries and piece, DIM4 vectors of
// sums of values, then one vector of the maximum and the sum of the weights. x: [tokens][QUERY_HEADS][pieces][DIM4 + 1] vectors
// of four.
//
// Constants: QUERY_HEADS, DIM4.

// Columns 4·chunk and the next three of a head.
inline float4 together4(device const float4* x, constant Step& step, uint token, uint head, uint chunk) {
    // As many as the row with the most has; those past this row's positions weigh nothing.
    const uint count = step.pieces;
    device const float4* pieces = x + (token * QUERY_HEADS + head) * count * (DIM4 + 1u);
    float most = pieces[DIM4].x;
    for (uint i = 1u; i < count; i++) {
        most = max(most, pieces[i * (DIM4 + 1u) + DIM4].x);
    }
    float4 sum = float4(0.0f);
    float weight = 0.0f;
    for (uint i = 0u; i < count; i++) {
        device const float4* piece = pieces + i * (DIM4 + 1u);
        const float shrink = exp(piece[DIM4].x - most);
        sum += piece[chunk] * shrink;
        weight += piece[DIM4].y * shrink;
    }
    return sum / weight;
}
