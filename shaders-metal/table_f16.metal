// Tables of binary16: rows of STRIDE vectors of eight numbers, zeros past COLS, behind a header of one vector.
// The interface of table_f32.metal; a span is eight columns.

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(HEADED == 1u ? table[index] : index == 0u ? uint(FACTOR) : uint(SCALE));
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    return float4(((device const half4*)table)[2u * (HEADED + row * STRIDE) + chunk]);
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, 2u * span), x4(x, token, 2u * span))
        + dot(weight4(table, row, 2u * span + 1u), x4(x, token, 2u * span + 1u));
}
