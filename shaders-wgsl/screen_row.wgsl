// One row normed, as norm.wgsl does it, and rounded to integers p of fifteen bits for screen.wgsl: x̂ = t·p.
//
// In: the first row that is listed (asked.wgsl). Out: normed, [OUT_STRIDE] f32, zeros past COLS; rounded: PADDED vectors of sixteen int8 with p's upper
// bits, as many with its lower ones, p = 128·upper + lower, zeros past COLS; then t, and what turns E and N of shadow.wgsl into
// the error of an estimate: E·x + N·y + z.
//
// One workgroup. Constants: those of quantize_row.wgsl, OUT_STRIDE, PADDED, GAMMA (bits of f32: more than the relative error of
// a sum of COLS products).

@group(0) @binding(2) var<storage, read_write> normed: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> asked: array<u32>;
@group(0) @binding(4) var<storage, read_write> rounded: array<u32>;

// The largest p, 127·128.
const MOST: f32 = 16256.0;

fn store(chunk: u32, y: vec4<f32>, inverse: f32) {
    if chunk < OUT_STRIDE / 4u {
        normed[chunk] = y;
    }
    if chunk < 4u * PADDED {
        let p = vec4<i32>(clamp(round(y * inverse), vec4<f32>(-MOST), vec4<f32>(MOST)));
        let upper = (p + vec4<i32>(64)) >> vec4<u32>(7u);
        rounded[chunk] = packed(upper);
        rounded[4u * PADDED + chunk] = packed(p - upper * 128);
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) local: u32) {
    let own = kept(asked[4], local);
    let rounding = rounding_of(own, local);
    var square = 0.0;
//each     let y@ = normed4(own.x@, own.gain@, rounding);
//each     square += dot(y@, y@);
    workgroupBarrier();
    let size = sqrt(workgroup_sum_max(vec2<f32>(square, 0.0), local).x) * 1.001;
    // A little more than the largest over MOST: no p is cut off.
    let step_of_p = 127.0 / rounding.scale / MOST * 1.00001;
    let inverse = 1.0 / step_of_p;
//each     store(local + @u * THREADS, y@, inverse);
    if local == 0u {
        // |y − t·p| is half of t, and a few roundings of p.
        let off = 0.51 * step_of_p * sqrt(f32(COLS));
        let gamma = bitcast<f32>(GAMMA);
        // Of N·size, 2⁻¹⁸ holds the roundings of the estimate itself; the last term what is lost below the normal numbers.
        let weights = vec3<f32>(size * (1.0 + gamma), off + (gamma + 1.0 / f32(1u << 18u)) * size, f32(COLS) * 1e-37);
        let at = 8u * PADDED;
        rounded[at] = bitcast<u32>(step_of_p);
        rounded[at + 1u] = bitcast<u32>(weights.x * 1.001);
        rounded[at + 2u] = bitcast<u32>(weights.y * 1.001);
        rounded[at + 3u] = bitcast<u32>(weights.z);
    }
}
