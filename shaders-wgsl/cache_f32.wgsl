// Keys and values of one layer in f32: [2][ROOM][KV_HEADS][DIM4] vectors of four, keys first, ROOM being step.room.
//
// Constants: KV_HEADS, DIM4 (vectors of a head).

alias Cached = vec4<f32>;

fn cache_at(which: u32, position: u32, head: u32, chunk: u32) -> u32 {
    return ((which * step.room + position) * KV_HEADS + head) * DIM4 + chunk;
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
