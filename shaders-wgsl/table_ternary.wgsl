// Ternary matrices as gemv.wgsl describes them, each weight decoded to f32: for activations that stay floats. The interface
// of table_f32.wgsl.
//
// Constants: COLS, WORDS, GROUPED (0: the scale is the tensor's), GROUP, GROUPS, MATRIX_ROWS (rows of the buffer).

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn header(index: u32) -> u32 {
    return table[index];
}

fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    let word = table[4u + row * WORDS + chunk / 4u] >> (chunk % 4u * 2u);
    let codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(3u);
    var scale = 1.0;
    if GROUPED == 1u {
        let at = 4u + MATRIX_ROWS * WORDS + row * GROUPS + chunk * 4u / GROUP;
        scale = bitcast<f32>(table[at]);
    }
    return (vec4<f32>(codes) - 1.0) * scale;
}

fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    return dot(weight4(row, span), x4(token, span));
}
