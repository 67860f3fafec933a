// Tables of Q8_0, the scales put behind the bytes of their row so that words are aligned: a row is STRIDE words, first
// STORED/4 of four int8 each, then the f16 scales of 32 columns, two to a word. The interface of table_f32.wgsl.
//
// Constants: COLS, STORED (columns of a stored row), STRIDE.

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn header(index: u32) -> u32 {
    return table[index];
}

fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    let first = 4u + row * STRIDE;
    let scales = unpack2x16float(table[first + STORED / 4u + chunk / 16u]);
    return signed4(table[first + chunk]) * select(scales.x, scales.y, chunk / 8u % 2u == 1u);
}

fn signed4(word: u32) -> vec4<f32> {
    let bytes = bitcast<i32>(word);
    return vec4<f32>(vec4<i32>(
        extractBits(bytes, 0u, 8u),
        extractBits(bytes, 8u, 8u),
        extractBits(bytes, 16u, 8u),
        extractBits(bytes, 24u, 8u),
    ));
}

fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    return dot(weight4(row, span), x4(token, span));
}
