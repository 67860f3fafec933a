// Keys and values of one layer in binary16: the layout and interface of cache_f32.metal.

typedef half4 Cached;

inline uint cache_at(uint room, uint which, uint position, uint head, uint chunk) {
    return ((which * room + position) * KV_HEADS + head) * DIM4 + chunk;
}

inline Cached stored(float4 value) {
    return half4(value);
}
