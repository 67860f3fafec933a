// Causal attention of many tokens of a sequence, without a matrix of scores: 32 queries of one head against tiles of 16 positions, each
// query with a running maximum and sum. For heads of any width; attend_tile_matrix.metal is its faster twin.
//
// Eight neighbouring lanes share a query. A tile's keys, and after them its values, lie in threadgroup memory; each lane
// scores two positions, and gets the other scores of its query by shuffles, then adds up every eighth vector of the values'
// columns.
//
// In: queries, [tokens, QUERY_HEADS·DIM]; the cache of a layer. Out: [tokens, QUERY_HEADS·DIM].
// Grid (QUERY_HEADS, tiles), 256 threads. Reads the positions once for each 32 queries of a head.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, OWN (= ⌈DIM4 / 8⌉).

#define QUERIES 32u
#define POSITIONS 16u
#define SHARERS 8u
#define PITCH (DIM4 + 1u)
#define LOWEST (-3.4028234e38f)

inline void fetch(
    device const Cached* cache,
    threadgroup float4* tile,
    device const uint* blocks,
    uint which,
    uint base,
    uint end,
    uint kv_head,
    uint local)
{
    for (uint i = local; i < POSITIONS * DIM4; i += 256u) {
        // Past the last position, that one stands in.
        const uint position = min(base + i / DIM4, end - 1u);
        tile[i / DIM4 * PITCH + i % DIM4] = float4(cache[cache_at(blocks, which, position, kv_head, i % DIM4)]);
    }
}

kernel void attend_tile(
    device const float* queries [[buffer(0)]],
    device const Cached* cache [[buffer(1)]],
    device float* out [[buffer(2)]],
    constant Step& step [[buffer(3)]],
    device const uint* places [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float4 tile[POSITIONS * PITCH];
    const uint head = group.x;
    const uint kv_head = head / (QUERY_HEADS / KV_HEADS);
    const uint own_query = local / SHARERS;
    const uint sharer = local % SHARERS;
    // The lane that holds the first scores of this query.
    const uint first_lane = local % 32u / SHARERS * SHARERS;
    const Tile own_tile = tile_at(places, step.count, group.y);
    // Past the last token, that token stands in.
    const uint own_token = min(own_query, own_tile.count - 1u);
    const uint token = own_tile.first_token + own_token;
    const uint positions = own_tile.first_position + own_token + 1u;
    const uint end = own_tile.first_position + own_tile.count;
    const float scale = 1.0f / sqrt(float(DIM));

    float most = LOWEST;
    float weight_sum = 0.0f;
    float4 sums[OWN];
    for (uint own = 0u; own < OWN; own++) {
        sums[own] = float4(0.0f);
    }
    for (uint base = 0u; base < end; base += POSITIONS) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        fetch(cache, tile, own_tile.blocks, 0u, base, end, kv_head, local);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float scores[2];
        float highest = most;
        for (uint s = 0u; s < 2u; s++) {
            const uint at = sharer + s * SHARERS;
            float4 products = float4(0.0f);
            for (uint chunk = 0u; chunk < DIM4; chunk++) {
                products += query4(queries, token, head, chunk) * tile[at * PITCH + chunk];
            }
            const float score = (products.x + products.y + products.z + products.w) * scale;
            scores[s] = base + at < positions ? score : LOWEST;
            highest = max(highest, scores[s]);
        }
        for (uint apart = 1u; apart < SHARERS; apart *= 2u) {
            highest = max(highest, simd_shuffle_xor(highest, ushort(apart)));
        }
        float weights[2];
        for (uint s = 0u; s < 2u; s++) {
            weights[s] = base + sharer + s * SHARERS < positions ? exp(scores[s] - highest) : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        fetch(cache, tile, own_tile.blocks, 1u, base, end, kv_head, local);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const float shrink = exp(most - highest);
        most = highest;
        weight_sum *= shrink;
        for (uint own = 0u; own < OWN; own++) {
            sums[own] *= shrink;
        }
        for (uint i = 0u; i < POSITIONS; i++) {
            const float weight = simd_shuffle(weights[i / SHARERS], ushort(first_lane + i % SHARERS));
            weight_sum += weight;
            for (uint own = 0u; own < OWN; own++) {
                // Past the last column, that one stands in, and is not stored.
                sums[own] += weight * tile[i * PITCH + min(sharer + SHARERS * own, DIM4 - 1u)];
            }
        }
    }
    if (own_query < own_tile.count) {
        for (uint own = 0u; own < OWN; own++) {
            const uint column = 4u * (sharer + SHARERS * own);
            const float4 four = sums[own] / weight_sum;
            for (uint c = 0u; c < 4u; c++) {
                if (column + c < DIM) {
                    out[token * (QUERY_HEADS * DIM) + head * DIM + column + c] = four[c];
                }
            }
        }
    }
}
