// Keys and values of one layer in f32, in blocks of the sequences (place.wgsl): each [2][BLOCK_POSITIONS][KV_HEADS][DIM4] vectors of
// four, keys first.
//
// Constants: BLOCK_POSITIONS, KV_HEADS, DIM4 (vectors of a head).

alias Cached = vec4<f32>;

fn cache_at(which: u32, position: u32, head: u32, chunk: u32) -> u32 {
    let block = places[blocks_at + position / BLOCK_POSITIONS];
    return (((block * 2u + which) * BLOCK_POSITIONS + position % BLOCK_POSITIONS) * KV_HEADS + head) * DIM4 + chunk;
}

fn cached(which: u32, position: u32, head: u32, chunk: u32) -> vec4<f32> {
    return loaded(cache[cache_at(which, position, head, chunk)]);
}

fn loaded(value: Cached) -> vec4<f32> {
    return value;
}

fn stored(value: vec4<f32>) -> Cached {
    return value;
}
