// Keys and values of one layer in binary16, two to a word: the layout and interface of cache_f32.wgsl.

alias Cached = vec2<u32>;

fn cache_at(which: u32, position: u32, head: u32, chunk: u32) -> u32 {
    let block = places[blocks_at + position / BLOCK_POSITIONS];
    return (((block * 2u + which) * BLOCK_POSITIONS + position % BLOCK_POSITIONS) * KV_HEADS + head) * DIM4 + chunk;
}

fn cached(which: u32, position: u32, head: u32, chunk: u32) -> vec4<f32> {
    return loaded(cache[cache_at(which, position, head, chunk)]);
}

fn loaded(words: Cached) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn stored(value: vec4<f32>) -> Cached {
    return Cached(pack2x16float(value.xy), pack2x16float(value.zw));
}
