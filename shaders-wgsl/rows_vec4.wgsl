// Four neighbouring columns of a row of activations, and of gains, where every row begins at a multiple of four.
//
// Constants: COLS, X_OFFSET and X_STRIDE (elements before the first row, and from one row to the next), all multiples
// of four. Bindings 0 (rows, f32) and 1 (gains, f32).

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;

// Columns 4·chunk and the next three of row `token`; zeros past COLS.
fn x4(token: u32, chunk: u32) -> vec4<f32> {
    if 4u * chunk >= COLS {
        return vec4<f32>();
    }
    return x[X_OFFSET / 4u + token * (X_STRIDE / 4u) + chunk];
}

fn gain4(chunk: u32) -> vec4<f32> {
    if 4u * chunk >= COLS {
        return vec4<f32>();
    }
    return gain[chunk];
}
