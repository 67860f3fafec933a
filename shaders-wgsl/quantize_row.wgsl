// RMSNorm (if NORM) and rounding to int8 of one row, by a whole workgroup.
//
//     y = x / √(mean(x²) + EPS) · gain,   s = 127 / max(|y|, 1e-5),   q = round(y · s), half to even.
//
// Four columns are one word of q, the lowest column in the lowest byte. Columns past COLS are zeros.
// Needs value4(token, chunk) and gain4(chunk): four columns of the row and of the gains; and the lanes.
//
// Constants: COLS, NORM (0 or 1), EPS (bits of an f32), THREADS.

const CHUNKS: u32 = (COLS + 3u) / 4u;

struct Rounding {
    // 1 / √(mean(x²) + EPS), or 1 without a norm.
    inverse: f32,
    // s.
    scale: f32,
}

// What turns the row into int8. Holds one barrier.
fn rounding_of(token: u32, local: u32) -> Rounding {
    var square = 0.0;
    var most = 0.0;
    for (var chunk = local; chunk < CHUNKS; chunk += THREADS) {
        var y = value4(token, chunk);
        square += dot(y, y);
        if NORM == 1u {
            y *= gain4(chunk);
        }
        let size = abs(y);
        most = max(most, max(max(size.x, size.y), max(size.z, size.w)));
    }
    let total = workgroup_sum_max(vec2<f32>(square, most), local);
    var inverse = 1.0;
    if NORM == 1u {
        inverse = 1.0 / sqrt(total.x / f32(COLS) + bitcast<f32>(EPS));
    }
    return Rounding(inverse, 127.0 / max(total.y * inverse, 1e-5));
}

// Four columns in int8.
fn rounded4(token: u32, chunk: u32, rounding: Rounding) -> vec4<i32> {
    var y = value4(token, chunk);
    if NORM == 1u {
        y = y * rounding.inverse * gain4(chunk);
    }
    return vec4<i32>(clamp(round(y * rounding.scale), vec4<f32>(-128.0), vec4<f32>(127.0)));
}

fn packed(q: vec4<i32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(q) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
