// Tables of Q6_K, every block of 256 columns filled up to 53 words: 32 of low nibbles, 16 of high pairs, 4 of sixteen int8
// scales, and the f16 scale of all. A row is STRIDE words. The interface of table_f32.wgsl.
//
// In a half of 128 columns, column l is the low nibble of byte l (below 64) or the high one of byte l − 64, and bits
// 2·(l / 32) of high byte l mod 32.
//
// Constants: COLS, STRIDE.

@group(0) @binding(2) var<storage, read> table: array<u32>;

const BLOCK: u32 = 53u;

fn header(index: u32) -> u32 {
    return table[index];
}

fn weight4(row: u32, chunk: u32) -> vec4<f32> {
    let first = 4u + row * STRIDE + chunk / 64u * BLOCK;
    let within = chunk % 64u;
    let half = within / 32u;
    let four = within % 32u;
    let low = table[first + half * 16u + four % 16u] >> (four / 16u * 4u);
    let high = table[first + 32u + half * 8u + four % 8u] >> (four / 8u * 2u);
    let shifts = vec4<u32>(0u, 8u, 16u, 24u);
    let codes = ((vec4<u32>(low) >> shifts) & vec4<u32>(15u)) | (((vec4<u32>(high) >> shifts) & vec4<u32>(3u)) << vec4<u32>(4u));
    let group = within / 4u;
    let scale = extractBits(bitcast<i32>(table[first + 48u + group / 4u]), group % 4u * 8u, 8u);
    let d = unpack2x16float(table[first + 52u]).x * f32(scale);
    return (vec4<f32>(codes) - 32.0) * d;
}

fn span_dot(row: u32, span: u32, token: u32) -> f32 {
    return dot(weight4(row, span), x4(token, span));
}
