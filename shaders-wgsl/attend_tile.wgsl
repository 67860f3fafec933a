// Causal attention of many tokens of a sequence, without a matrix of scores: 32 queries of one head against tiles of 16 positions, each
// query with a running maximum and sum.
//
// Eight invocations share a query. A tile's keys, and after them its values, lie in workgroup memory; each invocation
// scores two positions, then adds up every eighth vector of the values' columns.
//
// In: queries, [tokens, QUERY_HEADS·DIM]; the cache of a layer. Out: [tokens, QUERY_HEADS·DIM].
// Grid (QUERY_HEADS, tiles, queries of a tile / 32). Reads the positions once for each 32 queries of a head.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, OWN (= ⌈DIM4 / 8⌉). A workgroup has 256 invocations.

@group(0) @binding(1) var<storage, read> cache: array<Cached>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> step: Step;

const QUERIES: u32 = 32u;
const POSITIONS: u32 = 16u;
const SHARERS: u32 = 8u;
const PITCH: u32 = DIM4 + 1u;
const LOWEST: f32 = -3.4028234e38;

var<workgroup> tile: array<vec4<f32>, POSITIONS * PITCH>;
var<workgroup> weights: array<f32, QUERIES * (POSITIONS + 1u)>;

fn fetch(which: u32, base: u32, end: u32, kv_head: u32, local: u32) {
    for (var i = local; i < POSITIONS * DIM4; i += 256u) {
        let position = min(base + i / DIM4, end - 1u);
        tile[i / DIM4 * PITCH + i % DIM4] = cached(which, position, kv_head, i % DIM4);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let kv_head = head / (QUERY_HEADS / KV_HEADS);
    let own_query = local / SHARERS;
    let sharer = local % SHARERS;
    let tile_at = 4u * (step.count + group.y);
    let before = group.z * QUERIES;
    let first_token = places[tile_at] + before;
    let first_position = places[tile_at + 1u] + before;
    if before >= places[tile_at + 2u] {
        return;
    }
    let count = min(places[tile_at + 2u] - before, QUERIES);
    blocks_at = places[tile_at + 3u];
    // Past the last token, that token stands in.
    let own_token = min(own_query, count - 1u);
    let token = first_token + own_token;
    let positions = first_position + own_token + 1u;
    let end = first_position + count;
    let at = token * (QUERY_HEADS * DIM) + head * DIM;
    let scale = 1.0 / sqrt(f32(DIM));

    var most = LOWEST;
    var weight_sum = 0.0;
    var sums: array<vec4<f32>, OWN>;
    for (var base = 0u; base < end; base += POSITIONS) {
        workgroupBarrier();
        fetch(0u, base, end, kv_head, local);
        workgroupBarrier();
        var products0 = vec4<f32>();
        var products1 = vec4<f32>();
        for (var chunk = 0u; chunk < DIM4; chunk++) {
            let q = query4(token, head, chunk);
            products0 += q * tile[sharer * PITCH + chunk];
            products1 += q * tile[(sharer + SHARERS) * PITCH + chunk];
        }
        var score0 = (products0.x + products0.y + products0.z + products0.w) * scale;
        var score1 = (products1.x + products1.y + products1.z + products1.w) * scale;
        score0 = select(LOWEST, score0, base + sharer < positions);
        score1 = select(LOWEST, score1, base + sharer + SHARERS < positions);
        weights[own_query * (POSITIONS + 1u) + sharer] = score0;
        weights[own_query * (POSITIONS + 1u) + sharer + SHARERS] = score1;
        workgroupBarrier();
        fetch(1u, base, end, kv_head, local);
        var highest = most;
        for (var i = 0u; i < POSITIONS; i++) {
            highest = max(highest, weights[own_query * (POSITIONS + 1u) + i]);
        }
        workgroupBarrier();
        weights[own_query * (POSITIONS + 1u) + sharer] = select(0.0, exp(score0 - highest), base + sharer < positions);
        weights[own_query * (POSITIONS + 1u) + sharer + SHARERS] =
            select(0.0, exp(score1 - highest), base + sharer + SHARERS < positions);
        workgroupBarrier();
        let shrink = exp(most - highest);
        most = highest;
        weight_sum *= shrink;
        for (var own = 0u; own < OWN; own++) {
            sums[own] *= shrink;
        }
        for (var i = 0u; i < POSITIONS; i++) {
            let weight = weights[own_query * (POSITIONS + 1u) + i];
            weight_sum += weight;
            for (var own = 0u; own < OWN; own++) {
                // Past the last column, that one stands in, and is not stored.
                sums[own] += weight * tile[i * PITCH + min(sharer + SHARERS * own, DIM4 - 1u)];
            }
        }
    }
    if own_query < count {
        for (var own = 0u; own < OWN; own++) {
            let column = 4u * (sharer + SHARERS * own);
            let four = sums[own] / weight_sum;
            for (var c = 0u; c < 4u; c++) {
                if column + c < DIM {
                    out[at + column + c] = four[c];
                }
            }
        }
    }
}
