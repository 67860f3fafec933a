// Tables of f32: rows of STRIDE vectors of four words, zeros past COLS, behind a header of one.
//
// Constants: COLS, STRIDE. Binding 2.

@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;

// Word `index` of the header: 0, what products are multiplied by; 1, what weights are multiplied by beyond their format.
fn header(index: u32) -> u32 {
    return table[0][index];
}

// Columns 4·chunk and the next three.
fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(table[1u + row * STRIDE + chunk]);
}

// One span, four columns, times those of x.
fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    return dot(weight4(row, span), x4(token, span));
}
