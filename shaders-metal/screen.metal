// Estimates of all logits from a shadow of the head (shadow.metal), and how far they may be off.
//
// With x̂ = t·p (screen_row.metal) and ŵ = s·q: |w·x − ŵ·x̂| ≤ ‖w − ŵ‖·‖x‖ + ‖ŵ‖·‖x − x̂‖ by Cauchy and Schwarz. With the
// roundings of the logit itself, γ·‖w‖·‖x‖, that is E·weights.y + N·weights.z + weights.w. The integers are exact.
//
// Out: most, [ROWS], what a logit is at most; least, for each threadgroup what the highest of its logits is at least. The token
// with the highest logit has a `most` of no less than the highest `least` (screened.metal).
//
// Simdgroups take EACH rows, one after the other; a lane keeps its part of p.
// Grid (⌈ROWS / (TEAMS·EACH)⌉). Reads ROWS·COLS bytes. Constants: ROWS, VECTORS (of a row), PADDED, EACH, THREADS, LANES.

#define PARTS (PADDED / LANES)
#define LOWEST (-3.4028234e38f)

// A vector of sixteen int8 of the row, in halves: its upper and its lower bits.
struct Rounded {
    uint4 upper;
    uint4 lower;
};

inline int dot4(uint a, uint b) {
    const int4 products = int4(as_type<char4>(a)) * int4(as_type<char4>(b));
    return products.x + products.y + products.z + products.w;
}

inline int dot16(uint4 a, uint4 b) {
    return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w);
}

kernel void screen(
    device const uint4* rounded [[buffer(0)]],
    device const uint4* shadow [[buffer(1)]],
    device const float4* bounds [[buffer(2)]],
    device float* most [[buffer(3)]],
    device float* least [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 room[TEAMS];
    const uint lane = local % LANES;
    const uint first = (group.x * (THREADS / LANES) + local / LANES) * EACH;
    Rounded own[PARTS];
    for (uint i = 0u; i < PARTS; i++) {
        own[i] = Rounded{rounded[lane + i * LANES], rounded[PADDED + lane + i * LANES]};
    }
    const float4 weights = as_type<float4>(rounded[2u * PADDED]);
    float highest = LOWEST;
    for (uint r = 0u; r < EACH; r++) {
        // Past the last row, that row stands in; past its end the last vector, against zeros.
        const uint row = min(first + r, ROWS - 1u);
        int uppers = 0;
        int lowers = 0;
        for (uint i = 0u; i < PARTS; i++) {
            const uint4 q = shadow[row * VECTORS + min(lane + i * LANES, VECTORS - 1u)];
            uppers += dot16(q, own[i].upper);
            lowers += dot16(q, own[i].lower);
        }
        const float sum = float(simd_sum(uppers)) * 128.0f + float(simd_sum(lowers));
        const float4 bound = bounds[row];
        const float middle = sum * (bound.x * weights.x);
        const float error = bound.y * weights.y + bound.z * weights.z + weights.w;
        if (lane == 0u && first + r < ROWS) {
            most[row] = middle + error;
        }
        highest = max(highest, middle - error);
    }
    const float total = threadgroup_sum_max(float2(0.0f, highest), local, room).y;
    if (local == 0u) {
        least[group.x] = total;
    }
}
