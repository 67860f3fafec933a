// Keys and values of one layer in f32: [2][ROOM][KV_HEADS][DIM4] vectors of four, keys first, ROOM being step.room.
//
// Constants: KV_HEADS, DIM4 (vectors of a head).

typedef float4 Cached;

inline uint cache_at(uint room, uint which, uint position, uint head, uint chunk) {
    return ((which * room + position) * KV_HEADS + head) * DIM4 + chunk;
}

inline Cached stored(float4 value) {
    return value;
}
