// Causal attention of many tokens of a sequence, without a matrix of scores, by the matrices that a subgroup multiplies as one: QUERIES
// queries of one head against tiles of POSITIONS positions. The twin of attend_tile.wgsl for keys and values in binary16 and heads of
// a whole number of matrices in each half.
//
// First the highest score of each query is found, then weights that are relative to it are added up: so sums never shrink, which
// matrices could not do without rounding the factor. A query becomes two halves, which hold it to 22 bits, and a weight one, as keys and
// values are. A tile's keys, and after them its values, lie in workgroup memory. Eight teams share the queries in fourths, and
// positions, then columns, in halves.
//
// Lines behind `step` stand for the matrices that the columns of a head make up, with $ for 0, 1, …; behind `score` for those of a team's
// positions, and behind `own` for those of its columns, with @; behind `part` for those of all positions, with #.
//
// In: queries, [tokens, QUERY_HEADS·DIM]; the cache of a layer. Out: [tokens, QUERY_HEADS·DIM].
// Grid (QUERY_HEADS, tiles). Reads the keys twice and the values once for each QUERIES queries of a head.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, QUERIES, POSITIONS, THREADS, LANES; SIDE and the types of matrix_8.wgsl or matrix_16.wgsl.

@group(0) @binding(1) var<storage, read> cache: array<Cached>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> step: Step;

const TEAM_QUERIES: u32 = QUERIES / 4u;
const SHARERS: u32 = THREADS / QUERIES;
// In vectors of four; the two more keep rows in different banks, as what follows.
const PITCH: u32 = DIM4 + 2u;
const SCORE_PITCH: u32 = POSITIONS + 4u;
const WEIGHT_PITCH: u32 = POSITIONS + 8u;
const CORNER: u32 = SIDE * SIDE;
const LOWEST: f32 = -3.4028234e38;

// Queries, then keys and values.
var<workgroup> tile: array<vec4<f16>, max(QUERIES, POSITIONS) * PITCH>;
// Scores; at the end sums.
var<workgroup> scores: array<f32, QUERIES * SCORE_PITCH>;
var<workgroup> weights: array<f16, QUERIES * WEIGHT_PITCH>;
// What the sharers of each query found.
var<workgroup> shared_by: array<f32, THREADS>;

fn fetch(which: u32, base: u32, end: u32, kv_head: u32, local: u32) {
    for (var i = local; i < POSITIONS * DIM4; i += THREADS) {
        // Past the last position, that one stands in.
        let position = min(base + i / DIM4, end - 1u);
        tile[i / DIM4 * PITCH + i % DIM4] = vec4<f16>(cached(which, position, kv_head, i % DIM4));
    }
}

// Fetches queries, rounded to halves, or what is left of them.
fn fetch_queries(rest: bool, first_token: u32, count: u32, head: u32, local: u32) {
    for (var i = local; i < QUERIES * DIM4; i += THREADS) {
        // Past the last token, that token stands in.
        let query = query4(first_token + min(i / DIM4, count - 1u), head, i % DIM4);
        var halves = vec4<f16>(query);
        if rest {
            halves = vec4<f16>(query - vec4<f32>(halves));
        }
        tile[i / DIM4 * PITCH + i % DIM4] = halves;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let kv_head = head / (QUERY_HEADS / KV_HEADS);
    let tile_at = 4u * (step.count + group.y);
    let first_token = places[tile_at];
    let first_position = places[tile_at + 1u];
    let count = places[tile_at + 2u];
    blocks_at = places[tile_at + 3u];
    let end = first_position + count;
    let scale = 1.0 / sqrt(f32(DIM));
    // What its team multiplies.
    let team = local / LANES;
    let team_query = team / 2u * TEAM_QUERIES;
    let half_of = team % 2u;
    let key_at = half_of * (POSITIONS / 2u) * PITCH;
    let score_at = team_query * SCORE_PITCH + half_of * (POSITIONS / 2u);
    // Whose scores this invocation turns into weights.
    let own_query = local / SHARERS;
    let sharer = local % SHARERS;
    let positions = first_position + min(own_query, count - 1u) + 1u;

    fetch_queries(false, first_token, count, head, local);
    workgroupBarrier();
//step     let query$ = coopLoadT<Rows>(&tile[team_query * PITCH + $u * (SIDE / 4u)], PITCH);
    workgroupBarrier();
    fetch_queries(true, first_token, count, head, local);
    workgroupBarrier();
//step     let rest$ = coopLoadT<Rows>(&tile[team_query * PITCH + $u * (SIDE / 4u)], PITCH);

    var most = LOWEST;
    for (var base = 0u; base < end; base += POSITIONS) {
        workgroupBarrier();
        fetch(0u, base, end, kv_head, local);
        workgroupBarrier();
//score         var product@: Sums;
//step //score         let key$_@ = coopLoad<Columns>(&tile[key_at + @u * SIDE * PITCH + $u * (SIDE / 4u)], PITCH);
//step //score         product@ = coopMultiplyAdd(query$, key$_@, coopMultiplyAdd(rest$, key$_@, product@));
//score         coopStoreT(product@, &scores[score_at + @u * SIDE], SCORE_PITCH);
        workgroupBarrier();
        for (var at = sharer; at < POSITIONS; at += SHARERS) {
            if base + at < positions {
                most = max(most, scores[own_query * SCORE_PITCH + at]);
            }
        }
    }
    shared_by[local] = most;
    workgroupBarrier();
    for (var i = 0u; i < SHARERS; i++) {
        most = max(most, shared_by[own_query * SHARERS + i]);
    }

    var weight_sum = 0.0;
//own     var sum@: Sums;
    for (var base = 0u; base < end; base += POSITIONS) {
        workgroupBarrier();
        fetch(0u, base, end, kv_head, local);
        workgroupBarrier();
//score         var product@: Sums;
//step //score         let key$_@ = coopLoad<Columns>(&tile[key_at + @u * SIDE * PITCH + $u * (SIDE / 4u)], PITCH);
//step //score         product@ = coopMultiplyAdd(query$, key$_@, coopMultiplyAdd(rest$, key$_@, product@));
//score         coopStoreT(product@, &scores[score_at + @u * SIDE], SCORE_PITCH);
        workgroupBarrier();
        fetch(1u, base, end, kv_head, local);
        for (var at = sharer; at < POSITIONS; at += SHARERS) {
            var weight = 0h;
            if base + at < positions {
                weight = f16(exp((scores[own_query * SCORE_PITCH + at] - most) * scale));
            }
            // What is divided by is what is added up.
            weight_sum += f32(weight);
            weights[own_query * WEIGHT_PITCH + at] = weight;
        }
        workgroupBarrier();
//part         let weights# = coopLoadT<Rows>(&weights[team_query * WEIGHT_PITCH + #u * SIDE], WEIGHT_PITCH);
//part //own         sum@ = coopMultiplyAdd(weights#, coopLoadT<Columns>(&tile[#u * SIDE * PITCH + half_of * (DIM4 / 2u) + @u * (SIDE / 4u)], PITCH), sum@);
    }
    shared_by[local] = weight_sum;
//own     workgroupBarrier(); coopStoreT(sum@, &scores[team * CORNER], SIDE); workgroupBarrier(); store(@u * SIDE, first_token, count, head, local);
}

// Stores the columns from `column` on of each half, which lie in workgroup memory, a team's after the other's.
fn store(column: u32, first_token: u32, count: u32, head: u32, local: u32) {
    for (var i = local; i < THREADS / LANES * CORNER; i += THREADS) {
        let team = i / CORNER;
        let query = team / 2u * TEAM_QUERIES + i % CORNER / SIDE;
        if query < count {
            var weight_sum = 0.0;
            for (var sharer = 0u; sharer < SHARERS; sharer++) {
                weight_sum += shared_by[query * SHARERS + sharer];
            }
            let at = team % 2u * (DIM / 2u) + column + i % SIDE;
            out[(first_token + query) * (QUERY_HEADS * DIM) + head * DIM + at] = scores[i] / weight_sum;
        }
    }
}
