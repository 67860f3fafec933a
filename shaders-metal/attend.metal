// Causal attention of few tokens: softmax(q·kⱼ / √dim) over the positions up to the token's, then the values by these
// weights, in one pass with running maxima and sums.
//
// A threadgroup takes one head of queries of one token and a piece of the context. SHARERS neighbouring lanes hold the query,
// and share the row of a key and then that of its value, so that both are read side by side; scores are added up among them
// by shuffles. Each such crew takes AHEAD positions at a time, loads of which are under way together, and keeps a maximum and
// sums of its own. At the end the crews are put together through threadgroup memory.
//
// The queries, keys and values: attend_turned.metal or attend_turning.metal. Out: pieces.metal.
//
// Grid (QUERY_HEADS, rows of the class, pieces). Reads 8·DIM bytes (f32) or 4·DIM (binary16) a position.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, CLASS (of the rows: place.metal), SHARERS (a power of two up to LANES), THREADS, LANES.

// Vectors of a head that a lane has.
#define OWN ((DIM4 + SHARERS - 1u) / SHARERS)
#define CREWS (THREADS / SHARERS)
#define AHEAD 4u
#define LOWEST (-3.4028234e38f)

kernel void attend(
#if TURNING
    device const float* x [[buffer(0)]],
    device Cached* cache [[buffer(1)]],
#else
    device const float* queries [[buffer(0)]],
    device const Cached* cache [[buffer(1)]],
#endif
    device float4* out [[buffer(2)]],
    constant Step& step [[buffer(3)]],
    device const uint* places [[buffer(4)]],
#if TURNING
    device const float* q_gain [[buffer(5)]],
    device const float* k_gain [[buffer(6)]],
    device const float2* turns [[buffer(7)]],
#endif
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float4 shared_query[DIM4];
    threadgroup float4 crew_sums[CREWS * DIM4];
    threadgroup float2 crew_weights[CREWS];
    const uint head = group.x;
    const uint token = group.y + (CLASS == 0u ? 0u : CLASS == 1u ? step.second : step.third);
    const Place place = place_at(places, token);
    const uint kv_head = head / (QUERY_HEADS / KV_HEADS);
    const uint positions = place.position + 1u;
    // A row of fewer pieces than others leaves empty ones, which weigh nothing.
    const uint begin = min(group.z * place.piece, positions);
    const uint end = min(begin + place.piece, positions);
    const uint sharer = local % SHARERS;
    const uint crew = local / SHARERS;
#if TURNING
    threadgroup float4 fresh[2u * DIM4];
    threadgroup float4 turned[2u * DIM4];
    const Turning turning = {x, cache, q_gain, k_gain, turns};
    prepare(turning, place, token, head, end > place.position, local, turned, shared_query, fresh);
    const Given given = {cache, fresh};
#else
    const Given given = {queries, cache};
    prepare(given, token, head, local, shared_query);
#endif
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // Past the last vector, that one stands in: its query is zero, and its sum is not stored.
    uint chunks[OWN];
    float4 query[OWN];
    float4 sums[OWN];
    for (uint i = 0u; i < OWN; i++) {
        const uint chunk = sharer + i * SHARERS;
        chunks[i] = min(chunk, DIM4 - 1u);
        query[i] = chunk < DIM4 ? shared_query[chunk] : float4(0.0f);
        sums[i] = float4(0.0f);
    }
    float most = LOWEST;
    float weight_sum = 0.0f;
    // As often for every crew, since lanes of other crews take part in the shuffles.
    for (uint base = begin; base < end; base += AHEAD * CREWS) {
        float scores[AHEAD];
        float highest = most;
        for (uint a = 0u; a < AHEAD; a++) {
            // Past the last position, that one stands in, and weighs nothing.
            const uint position = base + a * CREWS + crew;
            float4 products = float4(0.0f);
            for (uint i = 0u; i < OWN; i++) {
                products += query[i] * loaded(given, place, 0u, min(position, end - 1u), kv_head, chunks[i]);
            }
            float score = products.x + products.y + products.z + products.w;
            for (uint apart = 1u; apart < SHARERS; apart *= 2u) {
                score += simd_shuffle_xor(score, ushort(apart));
            }
            scores[a] = position < end ? score : LOWEST;
            highest = max(highest, scores[a]);
        }
        const float shrink = exp(most - highest);
        most = highest;
        weight_sum *= shrink;
        for (uint i = 0u; i < OWN; i++) {
            sums[i] *= shrink;
        }
        for (uint a = 0u; a < AHEAD; a++) {
            const uint position = base + a * CREWS + crew;
            const float weight = position < end ? exp(scores[a] - highest) : 0.0f;
            weight_sum += weight;
            for (uint i = 0u; i < OWN; i++) {
                sums[i] += weight * loaded(given, place, 1u, min(position, end - 1u), kv_head, chunks[i]);
            }
        }
    }
    for (uint i = 0u; i < OWN; i++) {
        if (sharer + i * SHARERS < DIM4) {
            crew_sums[crew * DIM4 + chunks[i]] = sums[i];
        }
    }
    if (sharer == 0u) {
        crew_weights[crew] = float2(most, weight_sum);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float highest = LOWEST;
    for (uint c = 0u; c < CREWS; c++) {
        highest = max(highest, crew_weights[c].x);
    }
    device float4* piece = out + ((token * QUERY_HEADS + head) * groups.z + group.z) * (DIM4 + 1u);
    for (uint column = local; column < DIM4 + 1u; column += THREADS) {
        float4 all = float4(0.0f);
        float weights = 0.0f;
        for (uint c = 0u; c < CREWS; c++) {
            const float shrink = exp(crew_weights[c].x - highest);
            weights += crew_weights[c].y * shrink;
            all += crew_sums[c * DIM4 + min(column, DIM4 - 1u)] * shrink;
        }
        piece[column] = column == DIM4 ? float4(highest, weights, 0.0f, 0.0f) : all;
    }
}
