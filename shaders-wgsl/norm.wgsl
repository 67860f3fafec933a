// Rows normed (if NORM), left as f32: before a head or a matrix of floats.
//
// In: [tokens, COLS] f32; if ASKED is 1, the rows that are listed (asked.wgsl). Out: [tokens, OUT_STRIDE] f32, zeros past COLS. One
// workgroup for a token: grid (tokens).
// Constants: those of quantize_row.wgsl, OUT_STRIDE (a multiple of four), ASKED.

@group(0) @binding(2) var<storage, read_write> normed: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> asked: array<u32>;

fn store(out: u32, chunk: u32, x: vec4<f32>, gain: vec4<f32>, rounding: Rounding) {
    if chunk < OUT_STRIDE / 4u {
        normed[out + chunk] = normed4(x, gain, rounding);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let out = group.x * (OUT_STRIDE / 4u);
    var token = group.x;
    if ASKED == 1u {
        token = asked[4u + 4u * group.x];
    }
    let own = kept(token, local);
    let rounding = rounding_of(own, local);
//each     store(out, local + @u * THREADS, own.x@, own.gain@, rounding);
}
