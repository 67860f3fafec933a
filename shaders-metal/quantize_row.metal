// RMSNorm (if NORM) and rounding to int8 of one row, by a whole threadgroup.
//
//     y = x / √(mean(x²) + EPS) · gain,   s = 127 / max(|y|, 1e-5),   q = round(y · s), half to even.
//
// A thread keeps every THREADS-th vector of four columns of the row, KEPT_VECTORS of them, in registers. Columns past COLS are
// zeros. Needs value4(source, token, chunk) and gain4(gain, chunk): four columns of the row and of the gains; and the
// lanes.
//
// Constants: COLS, NORM (0 or 1), EPS (bits of an f32), THREADS, KEPT_VECTORS.

struct Kept {
    float4 x[KEPT_VECTORS];
};

inline Kept kept(Source source, uint token, uint local) {
    Kept own;
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        own.x[i] = value4(source, token, local + i * THREADS);
    }
    return own;
}

struct Rounding {
    // 1 / √(mean(x²) + EPS), or 1 without a norm.
    float inverse;
    // s.
    float scale;
};

inline float size_of(float4 x, device const float* gain, uint chunk) {
    float4 y = x;
    if (NORM == 1u) {
        y *= gain4(gain, chunk);
    }
    const float4 size = abs(y);
    return max(max(size.x, size.y), max(size.z, size.w));
}

// What turns the row into int8. Holds one barrier.
inline Rounding rounding_of(Kept own, Source source, uint local, threadgroup float2* room) {
    float square = 0.0f;
    float most = 0.0f;
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        square += dot(own.x[i], own.x[i]);
        most = max(most, size_of(own.x[i], source.gain, local + i * THREADS));
    }
    const float2 total = threadgroup_sum_max(float2(square, most), local, room);
    float inverse = 1.0f;
    if (NORM == 1u) {
        inverse = 1.0f / sqrt(total.x / float(COLS) + as_type<float>(uint(EPS)));
    }
    return Rounding{inverse, 127.0f / max(total.y * inverse, 1e-5f)};
}

// Four columns normed.
inline float4 normed4(float4 x, device const float* gain, uint chunk, Rounding rounding) {
    if (NORM == 1u) {
        return x * rounding.inverse * gain4(gain, chunk);
    }
    return x;
}

// Four columns in int8.
inline char4 rounded4(float4 x, device const float* gain, uint chunk, Rounding rounding) {
    const float4 y = normed4(x, gain, chunk, rounding);
    return char4(clamp(rint(y * rounding.scale), float4(-128.0f), float4(127.0f)));
}
