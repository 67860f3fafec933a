// Keys and values of one layer in f32, in blocks of the sequences (place.metal): each [2][BLOCK_POSITIONS][KV_HEADS][DIM4] vectors of
// four, keys first.
//
// Constants: BLOCK_POSITIONS, KV_HEADS, DIM4 (vectors of a head).

typedef float4 Cached;

inline uint cache_at(device const uint* blocks, uint which, uint position, uint head, uint chunk) {
    const uint block = blocks[position / BLOCK_POSITIONS];
    return (((block * 2u + which) * BLOCK_POSITIONS + position % BLOCK_POSITIONS) * KV_HEADS + head) * DIM4 + chunk;
}

inline Cached stored(float4 value) {
    return value;
}
