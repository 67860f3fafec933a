// RMSNorm (if NORM) and rounding to int8 of one row, by a whole workgroup.
//
//     y = x / √(mean(x²) + EPS) · gain,   s = 127 / max(|y|, 1e-5),   q = round(y · s), half to even.
//
// An invocation keeps every THREADS-th vector of four columns of the row, in registers: lines behind `each` stand for as
// many, with @ for 0, 1, …. Four columns are one word of q, the lowest column in the lowest byte. Columns past COLS are zeros.
// Needs value4(token, chunk) and gain4(chunk): four columns of the row and of the gains; and the lanes.
//
// Constants: COLS, NORM (0 or 1), EPS (bits of an f32), THREADS.

struct Kept {
//each     x@: vec4<f32>,
//each     gain@: vec4<f32>,
}

fn gain_or_one(chunk: u32) -> vec4<f32> {
    if NORM == 1u {
        return gain4(chunk);
    }
    return vec4<f32>(1.0);
}

fn kept(token: u32, local: u32) -> Kept {
    var own: Kept;
//each     own.x@ = value4(token, local + @u * THREADS);
//each     own.gain@ = gain_or_one(local + @u * THREADS);
    return own;
}

struct Rounding {
    // 1 / √(mean(x²) + EPS), or 1 without a norm.
    inverse: f32,
    // s.
    scale: f32,
}

fn size_of(x: vec4<f32>) -> f32 {
    let size = abs(x);
    return max(max(size.x, size.y), max(size.z, size.w));
}

// What turns the row into int8. Holds one barrier.
fn rounding_of(own: Kept, local: u32) -> Rounding {
    var square = 0.0;
    var most = 0.0;
//each     square += dot(own.x@, own.x@);
//each     most = max(most, size_of(own.x@ * own.gain@));
    let total = workgroup_sum_max(vec2<f32>(square, most), local);
    var inverse = 1.0;
    if NORM == 1u {
        inverse = 1.0 / sqrt(total.x / f32(COLS) + bitcast<f32>(EPS));
    }
    return Rounding(inverse, 127.0 / max(total.y * inverse, 1e-5));
}

// Four columns normed.
fn normed4(x: vec4<f32>, gain: vec4<f32>, rounding: Rounding) -> vec4<f32> {
    if NORM == 1u {
        return x * rounding.inverse * gain;
    }
    return x;
}

// Four columns in int8.
fn rounded4(x: vec4<f32>, gain: vec4<f32>, rounding: Rounding) -> vec4<i32> {
    let y = normed4(x, gain, rounding);
    return vec4<i32>(clamp(round(y * rounding.scale), vec4<f32>(-128.0), vec4<f32>(127.0)));
}

fn packed(q: vec4<i32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(q) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
