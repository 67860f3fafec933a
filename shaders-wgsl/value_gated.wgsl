// The row to be rounded is gate(g) · u: x holds g, and u beside it at U_OFFSET, in rows of the same stride.

@group(0) @binding(4) var<storage, read> up: array<f32>;

fn up1(token: u32, column: u32) -> f32 {
    if column >= COLS {
        return 0.0;
    }
    return up[U_OFFSET + token * U_STRIDE + column];
}

fn value4(token: u32, chunk: u32) -> vec4<f32> {
    let c = 4u * chunk;
    let u = vec4<f32>(up1(token, c), up1(token, c + 1u), up1(token, c + 2u), up1(token, c + 3u));
    return gated4(x4(token, chunk), u);
}
