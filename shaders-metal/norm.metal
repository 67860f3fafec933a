// Rows normed (if NORM), left as f32: before a head or a matrix of floats.
//
// In: [tokens, COLS] f32; if ASKED is 1, the rows that are listed (asked.metal). Out: [tokens, OUT_STRIDE] f32, zeros past COLS. One
// threadgroup for a token: grid (tokens). Reads 4·COLS bytes (8 where gated) and writes 4·OUT_STRIDE a token.
// Constants: those of quantize_row.metal, OUT_STRIDE (a multiple of four), ASKED, GATED (whether there is a buffer `up`).

kernel void norm(
    device const float* x [[buffer(0)]],
    device const float* gain [[buffer(1)]],
    device float4* normed [[buffer(2)]],
    device const uint* asked [[buffer(3)]],
#if GATED
    device const float* up [[buffer(4)]],
#endif
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
#if GATED
    const Source source = {x, gain, up};
#else
    const Source source = {x, gain};
#endif
    const uint out = group.x * (OUT_STRIDE / 4u);
    const uint token = ASKED == 1u ? asked[4u + 4u * group.x] : group.x;
    const Kept own = kept(source, token, local);
    const Rounding rounding = rounding_of(own, source, local, room);
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        const uint chunk = local + i * THREADS;
        if (chunk < OUT_STRIDE / 4u) {
            normed[out + chunk] = normed4(own.x[i], gain, chunk, rounding);
        }
    }
}
