// Tables of bfloat16: as table_f16.metal, each number the upper half of a binary32.

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(HEADED == 1u ? table[index] : index == 0u ? uint(FACTOR) : uint(SCALE));
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    const ushort4 upper = ((device const ushort4*)table)[2u * (HEADED + row * STRIDE) + chunk];
    return as_type<float4>(uint4(upper) << 16u);
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, 2u * span), x4(x, token, 2u * span))
        + dot(weight4(table, row, 2u * span + 1u), x4(x, token, 2u * span + 1u));
}
