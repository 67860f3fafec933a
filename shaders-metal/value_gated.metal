// The row to be rounded is gate(g) · u: x holds g, and u lies beside it at U_OFFSET, in rows of U_STRIDE.

struct Source {
    device const float* x;
    device const float* gain;
    device const float* up;
};

inline float up1(device const float* up, uint token, uint column) {
    return column < COLS ? up[U_OFFSET + token * U_STRIDE + column] : 0.0f;
}

inline float4 value4(Source source, uint token, uint chunk) {
    const uint c = 4u * chunk;
    const float4 u = float4(
        up1(source.up, token, c),
        up1(source.up, token, c + 1u),
        up1(source.up, token, c + 2u),
        up1(source.up, token, c + 3u));
    return gated4(x4(source.x, token, chunk), u);
}
