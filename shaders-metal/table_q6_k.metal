// Tables of Q6_K, every block of 256 columns filled up to 53 words: 32 of low nibbles, 16 of high pairs, 4 of sixteen int8
// scales, and the f16 scale of all. A row is STRIDE words. The interface of table_f32.metal.
//
// In a half of 128 columns, column l is the low nibble of byte l (below 64) or the high one of byte l − 64, and bits
// 2·(l / 32) of high byte l mod 32.
//
// Constants: COLS, STRIDE.

#define BLOCK 53u

inline float header_of(device const uint* table, uint index) {
    return as_type<float>(table[index]);
}

inline float4 weight4(device const uint* table, uint row, uint chunk) {
    device const uint* block = table + 4u + row * STRIDE + chunk / 64u * BLOCK;
    const uint within = chunk % 64u;
    const uint upper = within / 32u;
    const uint four = within % 32u;
    const uint low = block[upper * 16u + four % 16u] >> (four / 16u * 4u);
    const uint high = block[32u + upper * 8u + four % 8u] >> (four / 8u * 2u);
    const uint codes = (low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u);
    device const char* scales = (device const char*)(block + 48u);
    const float d = float(((device const half*)(block + 52u))[0]) * float(scales[within / 4u]);
    return (float4(as_type<uchar4>(codes)) - 32.0f) * d;
}

inline float span_dot(device const uint* table, uint row, uint span, device const float* x, uint token) {
    return dot(weight4(table, row, span), x4(x, token, span));
}
