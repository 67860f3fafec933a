// Ternary matrices as matrices.metal describes them, each weight decoded to f32: for activations that stay floats. The
// interface of table_f32.metal.
//
// Constants: COLS, WORDS, GROUPED (0: the scale is the tensor's), GROUP, GROUPS, MATRIX_ROWS (rows of the buffer).

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(table[index]);
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    const uint word = table[4u + row * WORDS + chunk / 4u] >> (chunk % 4u * 2u);
    const float4 codes = float4(as_type<uchar4>(word & 0x03030303u));
    float scale = 1.0f;
    if (GROUPED == 1u) {
        device const float* scales = (device const float*)(table + 4u + MATRIX_ROWS * WORDS);
        scale = scales[row * GROUPS + chunk * 4u / GROUP];
    }
    return (codes - 1.0f) * scale;
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, span), x4(x, token, span));
}
