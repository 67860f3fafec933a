// The row to be rounded is the attention of all heads, which comes in pieces (pieces.metal). Heads are whole vectors of four.

struct Source {
    device const float4* x;
    device const float* gain;
    constant Step* step;
};

inline float4 value4(Source source, uint token, uint chunk) {
    if (4u * chunk >= COLS) {
        return float4(0.0f);
    }
    return together4(source.x, *source.step, token, chunk / DIM4, chunk % DIM4);
}
