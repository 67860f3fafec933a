// Rows normed and rounded to int8, for matrix products of many tokens.
//
// In: [tokens, COLS] f32. Out: q, [tokens, QWORDS] vectors of four int8, zeros past COLS; s, [tokens] f32.
// One threadgroup for a token: grid (tokens). Reads 4·COLS bytes (8 where gated) and writes COLS bytes a token.
// Constants: those of quantize_row.metal, QWORDS, GATED (whether there is a buffer `up`), PIECES (whether x comes
// in pieces of attention: value_pieces.metal), PLAIN (neither).

kernel void quantize(
    device const float* x [[buffer(0)]],
    device const float* gain [[buffer(1)]],
    device char4* q [[buffer(2)]],
    device float* scales [[buffer(3)]],
#if GATED
    device const float* up [[buffer(4)]],
#endif
#if PIECES
    constant Step& step [[buffer(4)]],
#endif
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
#if GATED
    const Source source = {x, gain, up};
#endif
#if PIECES
    const Source source = {(device const float4*)x, gain, &step};
#endif
#if PLAIN
    const Source source = {x, gain};
#endif
    const uint token = group.x;
    const Kept own = kept(source, token, local);
    const Rounding rounding = rounding_of(own, source, local, room);
    for (uint i = 0u; i < KEPT_VECTORS; i++) {
        const uint chunk = local + i * THREADS;
        if (chunk < QWORDS) {
            q[token * QWORDS + chunk] = rounded4(own.x[i], gain, chunk, rounding);
        }
    }
    if (local == 0u) {
        scales[token] = rounding.scale;
    }
}
