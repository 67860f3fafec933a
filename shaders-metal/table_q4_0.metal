// Tables of Q4_0, the scales put behind the nibbles of their row so that words are aligned: a row is STRIDE words, first
// STORED/8 of nibbles, then the f16 scales of 32 columns, two to a word. Of a block's four words, byte j holds column j
// below and column j + 16 above. The interface of table_f32.metal.
//
// Constants: COLS, STORED (columns of a stored row), STRIDE.

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(table[index]);
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    device const uint* words = table + 4u + row * STRIDE;
    device const half* scales = (device const half*)(words + STORED / 8u);
    const uint word = words[chunk / 8u * 4u + chunk % 4u] >> (chunk / 4u % 2u * 4u);
    const float4 nibbles = float4(as_type<uchar4>(word & 0x0f0f0f0fu));
    return (nibbles - 8.0f) * float(scales[chunk / 8u]);
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, span), x4(x, token, span));
}
