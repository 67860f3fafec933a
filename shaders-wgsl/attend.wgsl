// Causal attention of few tokens: softmax(q·kⱼ / √dim) over the positions up to the token's, then the values by these
// weights, in one pass with a running maximum and sum.
//
// A workgroup takes one head of queries of one token and, in a split context, CHUNK positions. PARTS neighbouring
// invocations share the row of a key, so that they read it side by side; then teams of invocations add up values, DIM4
// invocations to a row.
//
// In: queries, [tokens, QUERY_HEADS·DIM]; the cache of a layer. Out: if SPLIT is 0, [tokens, QUERY_HEADS·DIM]; else, for
// each token, head and piece, 4·DIM4 sums of values, the maximum and the sum of weights, which combine.wgsl puts together.
//
// Eight loads are under way at a time: lines behind `each` stand for them, with @ for 0 to 7.
//
// Grid (QUERY_HEADS, tokens, pieces). Reads 8·DIM bytes (f32) a position.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, SPLIT, CHUNK, THREADS (at least DIM4).

@group(0) @binding(1) var<storage, read> cache: array<Cached>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> step: Step;

const TEAMS_OF_VALUES: u32 = THREADS / DIM4;
const AHEAD: u32 = 8u;
const LOWEST: f32 = -3.4028234e38;

// Invocations to the row of a key.
const PARTS: u32 = 8u;
// Products of a part, apart by as many banks of memory as a part has positions at a time.
const PART_GAP: u32 = THREADS + 4u;

var<workgroup> query: array<vec4<f32>, DIM4>;
var<workgroup> parts: array<f32, PARTS * PART_GAP>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> sums: array<vec4<f32>, THREADS>;

fn weight_of(index: u32, count: u32) -> f32 {
    return select(0.0, weights[min(index, count - 1u)], index < count);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let token = group.y;
    let kv_head = head / (QUERY_HEADS / KV_HEADS);
    let positions = step.first + token + 1u;
    var begin = 0u;
    var end = positions;
    if SPLIT == 1u {
        begin = min(group.z * CHUNK, positions);
        end = min(begin + CHUNK, positions);
    }
    for (var chunk = local; chunk < DIM4; chunk += THREADS) {
        query[chunk] = query4(token, head, chunk) * (1.0 / sqrt(f32(DIM)));
    }
    workgroupBarrier();

    let chunk = local % DIM4;
    let team = local / DIM4;
    var most = LOWEST;
    var weight_sum = 0.0;
    var sum = vec4<f32>();
    for (var base = begin; base < end; base += THREADS) {
        let count = min(end - base, THREADS);
        let part = local % PARTS;
        for (var i = local / PARTS; i < count; i += THREADS / PARTS) {
            var products = vec4<f32>();
            for (var c = part; c < DIM4; c += PARTS) {
                products += query[c] * cached(0u, base + i, kv_head, c);
            }
            parts[part * PART_GAP + i] = products.x + products.y + products.z + products.w;
        }
        workgroupBarrier();
        var score = LOWEST;
        if local < count {
            score = 0.0;
            for (var i = 0u; i < PARTS; i++) {
                score += parts[i * PART_GAP + local];
            }
        }
        let highest = max(most, workgroup_sum_max(vec2<f32>(0.0, score), local).y);
        workgroupBarrier();
        let shrink = exp(most - highest);
        most = highest;
        var weight = 0.0;
        if local < count {
            weight = exp(score - highest);
        }
        weights[local] = weight;
        weight_sum = weight_sum * shrink + workgroup_sum_max(vec2<f32>(weight, 0.0), local).x;
        sum *= shrink;
        if team < TEAMS_OF_VALUES {
            // Past the last position that one stands in, and weighs nothing.
            for (var i = team; i < count; i += AHEAD * TEAMS_OF_VALUES) {
//each                 let value@ = cached(1u, base + min(i + @u * TEAMS_OF_VALUES, count - 1u), kv_head, chunk);
//each                 sum += weight_of(i + @u * TEAMS_OF_VALUES, count) * value@;
            }
        }
        workgroupBarrier();
    }
    sums[local] = sum;
    workgroupBarrier();
    if local < DIM4 {
        var all = sums[local];
        for (var i = 1u; i < TEAMS_OF_VALUES; i++) {
            all += sums[i * DIM4 + local];
        }
        if SPLIT == 1u {
            let piece = ((token * QUERY_HEADS + head) * groups.z + group.z) * (4u * DIM4 + 2u);
            for (var c = 0u; c < 4u; c++) {
                out[piece + 4u * local + c] = all[c];
            }
            if local == 0u {
                out[piece + 4u * DIM4] = most;
                out[piece + 4u * DIM4 + 1u] = weight_sum;
            }
        } else {
            all *= 1.0 / weight_sum;
            for (var c = 0u; c < 4u; c++) {
                if 4u * local + c < DIM {
                    out[token * (QUERY_HEADS * DIM) + head * DIM + 4u * local + c] = all[c];
                }
            }
        }
    }
}
