// Tables of Q4_0, the scales put behind the nibbles of their row so that words are aligned: a row is STRIDE words, first
// STORED/8 of nibbles, then the f16 scales of 32 columns, two to a word. Of a block's four words, byte j holds column j
// below and column j + 16 above. The interface of table_f32.wgsl.
//
// Constants: COLS, STORED (columns of a stored row), STRIDE.

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn header(index: u32) -> u32 {
    return table[index];
}

fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    let first = 4u + row * STRIDE;
    let scales = unpack2x16float(table[first + STORED / 8u + chunk / 16u]);
    let word = table[first + chunk / 8u * 4u + chunk % 4u] >> (chunk / 4u % 2u * 4u);
    let nibbles = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    return (vec4<f32>(nibbles) - 8.0) * select(scales.x, scales.y, chunk / 8u % 2u == 1u);
}

fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    return dot(weight4(row, span), x4(token, span));
}
