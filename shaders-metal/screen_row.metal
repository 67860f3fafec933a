// One row normed, as norm.metal does it, and rounded to integers p of fifteen bits for screen.metal: x̂ = t·p.
//
// In: the first row that is listed (asked.metal). Out: normed, [OUT_STRIDE] f32, zeros past COLS; rounded: PADDED vectors of sixteen int8 with p's upper
// bits, as many with its lower ones, p = 128·upper + lower, zeros past COLS; then t, and what turns E and N of shadow.metal into
// the error of an estimate: E·x + N·y + z.
//
// One threadgroup. Constants: those of quantize_row.metal, OUT_STRIDE, PADDED, GAMMA (bits of f32: more than the relative error
// of a sum of COLS products).

// The largest p, 127·128.
#define MOST 16256.0f

kernel void screen_row(
    device const float* x [[buffer(0)]],
    device const float* gain [[buffer(1)]],
    device float4* normed [[buffer(2)]],
    device const uint* asked [[buffer(3)]],
    device char4* rounded [[buffer(4)]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
    threadgroup float2 square_room[TEAMS];
    const Source source = {x, gain};
    const Kept own = kept(source, asked[4], local);
    const Rounding rounding = rounding_of(own, source, local, room);
    float square = 0.0f;
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        const float4 y = normed4(own.x[i], gain, local + i * THREADS, rounding);
        square += dot(y, y);
    }
    const float size = sqrt(threadgroup_sum_max(float2(square, 0.0f), local, square_room).x) * 1.001f;
    // A little more than the largest over MOST: no p is cut off.
    const float step_of_p = 127.0f / rounding.scale / MOST * 1.00001f;
    const float inverse = 1.0f / step_of_p;
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        const uint chunk = local + i * THREADS;
        const float4 y = normed4(own.x[i], gain, chunk, rounding);
        if (chunk < OUT_STRIDE / 4u) {
            normed[chunk] = y;
        }
        if (chunk < 4u * PADDED) {
            const int4 p = int4(clamp(rint(y * inverse), float4(-MOST), float4(MOST)));
            const int4 upper = (p + 64) >> 7;
            rounded[chunk] = char4(upper);
            rounded[4u * PADDED + chunk] = char4(p - upper * 128);
        }
    }
    if (local == 0u) {
        // |y − t·p| is half of t, and a few roundings of p.
        const float off = 0.51f * step_of_p * sqrt(float(COLS));
        const float gamma = as_type<float>(uint(GAMMA));
        // Of N·size, 2⁻¹⁸ holds the roundings of the estimate itself; the last term what is lost below the normal numbers.
        const float of_error = size * (1.0f + gamma) * 1.001f;
        const float of_norm = (off + (gamma + 1.0f / 262144.0f) * size) * 1.001f;
        ((device float4*)rounded)[2u * PADDED] = float4(step_of_p, of_error, of_norm, float(COLS) * 1e-37f);
    }
}
