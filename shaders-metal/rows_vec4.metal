// Four neighbouring columns of a row of activations, and of gains, where every row begins at a multiple of four.
//
// Constants: COLS, X_OFFSET and X_STRIDE (elements before the first row, and from one row to the next), all multiples
// of four.

// Columns 4·chunk and the next three of row `token`; zeros past COLS.
inline float4 x4(device const float* x, uint token, uint chunk) {
    if (4u * chunk >= COLS) {
        return float4(0.0f);
    }
    return ((device const float4*)(x + X_OFFSET + token * X_STRIDE))[chunk];
}

inline float4 gain4(device const float* gain, uint chunk) {
    if (4u * chunk >= COLS) {
        return float4(0.0f);
    }
    return ((device const float4*)gain)[chunk];
}
