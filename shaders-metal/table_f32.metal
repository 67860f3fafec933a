// Tables of f32: rows of STRIDE vectors of four words, zeros past COLS, behind a header of one; or without a header, where
// they lie in a file.
//
// Constants: COLS, STRIDE, HEADED (whether there is a header), FACTOR and SCALE (bits of what it would say).

// Word `index` of the header: 0, what products are multiplied by; 1, what weights are multiplied by beyond their format.
inline float header_of(device const uint* table, uint index) {
    return as_type<float>(HEADED == 1u ? table[index] : index == 0u ? uint(FACTOR) : uint(SCALE));
}

// Columns 4·chunk and the next three.
inline float4 weight4(device const uint* table, uint row, uint chunk) {
    return ((device const float4*)table)[HEADED + row * STRIDE + chunk];
}

// One span, four columns, times those of x.
inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, span), x4(x, token, span));
}
