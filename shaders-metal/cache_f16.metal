// Keys and values of one layer in binary16: the layout and interface of cache_f32.metal.

typedef half4 Cached;

inline uint cache_at(device const uint* blocks, uint which, uint position, uint head, uint chunk) {
    const uint block = blocks[position / BLOCK_POSITIONS];
    return (((block * 2u + which) * BLOCK_POSITIONS + position % BLOCK_POSITIONS) * KV_HEADS + head) * DIM4 + chunk;
}

inline Cached stored(float4 value) {
    return half4(value);
}
