// Tables of bfloat16: as table_f16.wgsl, each number the upper half of a binary32.

@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;

fn header(index: u32) -> u32 {
    return table[0][index];
}

fn widened(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(
        words.x << 16u,
        words.x & 0xffff0000u,
        words.y << 16u,
        words.y & 0xffff0000u,
    ));
}

fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    let eight = table[1u + row * STRIDE + chunk / 2u];
    return widened(select(eight.xy, eight.zw, vec2<bool>(chunk % 2u == 1u)));
}

fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    let eight = table[1u + row * STRIDE + span];
    return dot(widened(eight.xy), x4(token, 2u * span)) + dot(widened(eight.zw), x4(token, 2u * span + 1u));
}
