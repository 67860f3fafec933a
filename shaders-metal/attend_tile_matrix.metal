// Causal attention of many tokens of a sequence, without a matrix of scores, by simdgroup matrices: 32 queries of one head against tiles
// of 16 positions, each query with a running maximum and sum. The twin of attend_tile.metal for heads whose width is a
// multiple of eight, up to 128.
//
// Queries lie in threadgroup memory, and a tile's keys and after them its values, all as f32. Simdgroup s scores the eight
// queries s / 2 against the eight positions s mod 2 of a tile, and keeps half of the columns of these queries' sums. What a
// new maximum shrinks the sums by is a diagonal matrix that they are multiplied with.
//
// In: queries, [tokens, QUERY_HEADS·DIM]; the cache of a layer. Out: [tokens, QUERY_HEADS·DIM].
// Grid (QUERY_HEADS, tiles), 256 threads. Reads the positions once for each 32 queries of a head.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4.

#define QUERIES 32u
#define POSITIONS 16u
#define SHARERS 8u
// In vectors of four; the one more keeps the rows of a matrix in different banks.
#define PITCH4 (DIM4 + 1u)
#define PITCH (4u * PITCH4)
#define SCORE_PITCH (POSITIONS + 4u)
// 8 × 8 blocks of the sums that a simdgroup keeps: half of the columns, rounded up.
#define OWN_BLOCKS ((DIM / 8u + 1u) / 2u)
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
        tile[i / DIM4 * PITCH4 + i % DIM4] = float4(cache[cache_at(blocks, which, position, kv_head, i % DIM4)]);
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
    // Queries, and at the end their sums.
    threadgroup float4 query_tile[QUERIES * PITCH4];
    threadgroup float4 tile[POSITIONS * PITCH4];
    threadgroup float scores[QUERIES * SCORE_PITCH];
    threadgroup float shrinks[4u * 64u];
    const uint head = group.x;
    const uint kv_head = head / (QUERY_HEADS / KV_HEADS);
    const Tile own_tile = tile_at(places, step.count, group.y);
    const uint end = own_tile.first_position + own_tile.count;
    // Whose scores this thread turns into weights, two of them.
    const uint own_query = local / SHARERS;
    const uint sharer = local % SHARERS;
    const uint positions = own_tile.first_position + min(own_query, own_tile.count - 1u) + 1u;
    // What its simdgroup multiplies.
    const uint team = local / 32u;
    const uint query_block = team / 2u;
    const uint part = team % 2u;
    const uint first_block = part * OWN_BLOCKS;
    const uint blocks = min(OWN_BLOCKS, DIM / 8u - first_block);
    threadgroup float* own_sums = (threadgroup float*)query_tile + query_block * 8u * PITCH;
    threadgroup const float* own_queries = own_sums;
    threadgroup const float* rows = (threadgroup const float*)tile;

    for (uint i = local; i < QUERIES * DIM4; i += 256u) {
        // Past the last token, that token stands in.
        const uint token = own_tile.first_token + min(i / DIM4, own_tile.count - 1u);
        query_tile[i / DIM4 * PITCH4 + i % DIM4] =
            query4(queries, token, head, i % DIM4) * (1.0f / sqrt(float(DIM)));
    }
    shrinks[local] = 0.0f;
    simdgroup_float8x8 sums[OWN_BLOCKS];
    for (uint i = 0u; i < OWN_BLOCKS; i++) {
        sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    float most = LOWEST;
    float weight_sum = 0.0f;
    for (uint base = 0u; base < end; base += POSITIONS) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        fetch(cache, tile, own_tile.blocks, 0u, base, end, kv_head, local);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_float8x8 products = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        for (uint k = 0u; k < DIM; k += 8u) {
            simdgroup_float8x8 a;
            simdgroup_float8x8 b;
            simdgroup_load(a, own_queries + k, PITCH);
            // Columns of the product are positions.
            simdgroup_load(b, rows + part * 8u * PITCH + k, PITCH, ulong2(0, 0), true);
            simdgroup_multiply_accumulate(products, a, b, products);
        }
        simdgroup_store(products, scores + query_block * 8u * SCORE_PITCH + part * 8u, SCORE_PITCH);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        fetch(cache, tile, own_tile.blocks, 1u, base, end, kv_head, local);
        threadgroup float* own_scores = scores + own_query * SCORE_PITCH;
        float highest = most;
        for (uint s = 0u; s < 2u; s++) {
            const uint at = sharer + s * SHARERS;
            if (base + at < positions) {
                highest = max(highest, own_scores[at]);
            }
        }
        for (uint apart = 1u; apart < SHARERS; apart *= 2u) {
            highest = max(highest, simd_shuffle_xor(highest, ushort(apart)));
        }
        const float shrink = exp(most - highest);
        most = highest;
        weight_sum *= shrink;
        for (uint s = 0u; s < 2u; s++) {
            const uint at = sharer + s * SHARERS;
            const float weight = base + at < positions ? exp(own_scores[at] - highest) : 0.0f;
            weight_sum += weight;
            own_scores[at] = weight;
        }
        if (sharer == 0u) {
            shrinks[own_query / 8u * 64u + own_query % 8u * 9u] = shrink;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_float8x8 diagonal;
        simdgroup_load(diagonal, shrinks + query_block * 64u, 8u);
        simdgroup_float8x8 weights[2];
        for (uint p = 0u; p < 2u; p++) {
            simdgroup_load(weights[p], scores + query_block * 8u * SCORE_PITCH + p * 8u, SCORE_PITCH);
        }
        // To a constant, so that no matrix is indexed by what is known only when it runs.
        for (uint i = 0u; i < OWN_BLOCKS; i++) {
            if (i < blocks) {
                simdgroup_float8x8 shrunk;
                simdgroup_multiply(shrunk, diagonal, sums[i]);
                for (uint p = 0u; p < 2u; p++) {
                    simdgroup_float8x8 values;
                    simdgroup_load(values, rows + p * 8u * PITCH + (first_block + i) * 8u, PITCH);
                    simdgroup_multiply_accumulate(shrunk, weights[p], values, shrunk);
                }
                sums[i] = shrunk;
            }
        }
    }
    for (uint apart = 1u; apart < SHARERS; apart *= 2u) {
        weight_sum += simd_shuffle_xor(weight_sum, ushort(apart));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0u; i < OWN_BLOCKS; i++) {
        if (i < blocks) {
            simdgroup_store(sums[i], own_sums + (first_block + i) * 8u, PITCH);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (own_query < own_tile.count) {
        device float* row = out + (own_tile.first_token + own_query) * (QUERY_HEADS * DIM) + head * DIM;
        threadgroup const float* all = (threadgroup const float*)query_tile + own_query * PITCH;
        for (uint column = sharer; column < DIM; column += SHARERS) {
            row[column] = all[column] / weight_sum;
        }
    }
}
