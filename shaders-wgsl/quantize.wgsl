// Rows normed and rounded to int8, for matrix products of many tokens.
//
// In: [tokens, COLS] f32. Out: q, [tokens, QWORDS] words of four int8, zeros past COLS; s, [tokens] f32.
// One workgroup for a token: grid (tokens). Reads 4·COLS bytes (8 where gated) and writes COLS bytes a token.
// Constants: those of quantize_row.wgsl, QWORDS.

@group(0) @binding(2) var<storage, read_write> q: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

fn store(token: u32, chunk: u32, x: vec4<f32>, gain: vec4<f32>, rounding: Rounding) {
    if chunk < QWORDS {
        q[token * QWORDS + chunk] = packed(rounded4(x, gain, rounding));
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.x;
    let own = kept(token, local);
    let rounding = rounding_of(own, local);
//each     store(token, local + @u * THREADS, own.x@, own.gain@, rounding);
    if local == 0u {
        scales[token] = rounding.scale;
    }
}
