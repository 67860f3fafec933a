// Four neighbouring columns of a row of activations, and of gains, wherever rows begin: rows_vec4.wgsl for widths that
// are no multiple of four.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;

fn x1(token: u32, column: u32) -> f32 {
    if column >= COLS {
        return 0.0;
    }
    return x[X_OFFSET + token * X_STRIDE + column];
}

fn x4(token: u32, chunk: u32) -> vec4<f32> {
    let c = 4u * chunk;
    return vec4<f32>(x1(token, c), x1(token, c + 1u), x1(token, c + 2u), x1(token, c + 3u));
}

fn gain1(column: u32) -> f32 {
    if column >= COLS {
        return 0.0;
    }
    return gain[column];
}

fn gain4(chunk: u32) -> vec4<f32> {
    let c = 4u * chunk;
    return vec4<f32>(gain1(c), gain1(c + 1u), gain1(c + 2u), gain1(c + 3u));
}
