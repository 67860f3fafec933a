// Tables of Q8_0, the scales put behind the bytes of their row so that words are aligned: a row is STRIDE words, first
// STORED/4 of four int8 each, then the f16 scales of 32 columns, two to a word. The interface of table_f32.metal.
//
// Constants: COLS, STORED (columns of a stored row), STRIDE.

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(table[index]);
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    device const uint* words = table + 4u + row * STRIDE;
    device const half* scales = (device const half*)(words + STORED / 4u);
    return float4(as_type<char4>(words[chunk])) * float(scales[chunk / 8u]);
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, span), x4(x, token, span));
}
