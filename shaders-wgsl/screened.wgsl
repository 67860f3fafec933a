// The logits of the rows that could be the highest (screen.wgsl), as dense.wgsl computes them, and of each SPAN rows the likeliest.
//
// In: a row of x, the table, most and least. Out: logits, those that are computed; kept, [workgroups] pairs of key and id.
// Grid (⌈ROWS / SPAN⌉). Reads 4 bytes a row, and the rows that count.
// Constants: those of the format's file, ROWS, SPANS, SPAN, LEASTS (how many there are), THREADS, LANES.

@group(0) @binding(3) var<storage, read> most: array<f32>;
@group(0) @binding(4) var<storage, read> least: array<f32>;
@group(0) @binding(5) var<storage, read_write> logits: array<u32>;
@group(0) @binding(6) var<storage, read_write> kept: array<vec2<u32>>;

const LOWEST: f32 = -3.4028234e38;

var<workgroup> chosen: array<u32, SPAN>;
var<workgroup> next: atomic<u32>;
var<workgroup> count: u32;

// Whether the logit of a row may be among those of at least `limit`; so may one of which nothing is known.
fn counts(row: u32, limit: f32) -> bool {
    let highest = most[row];
    return highest >= limit || (bitcast<u32>(highest) & 0x7f800000u) == 0x7f800000u;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var own = LOWEST;
    for (var i = local; i < LEASTS; i += THREADS) {
        own = max(own, least[i]);
    }
    let limit = workgroup_sum_max(vec2<f32>(0.0, own), local).y;
    if local == 0u {
        atomicStore(&next, 0u);
    }
    workgroupBarrier();
    for (var i = local; i < SPAN; i += THREADS) {
        let row = group.x * SPAN + i;
        if row < ROWS && counts(row, limit) {
            chosen[atomicAdd(&next, 1u)] = row;
        }
    }
    workgroupBarrier();
    if local == 0u {
        count = atomicLoad(&next);
    }
    let all = workgroupUniformLoad(&count);
    let team = local / LANES;
    let lane = local % LANES;
    var likeliest = NOBODY;
    for (var base = 0u; base < all; base += THREADS / LANES) {
        // Past the last one, that one stands in.
        let row = chosen[min(base + team, all - 1u)];
        var sum = 0.0;
        for (var span = lane; span < SPANS; span += LANES) {
            sum += span_dot(row, span, 0u);
        }
        let logit = bitcast<u32>(lanes_sum_vec4(vec4<f32>(sum, 0.0, 0.0, 0.0), local).x * bitcast<f32>(header(0u)));
        if lane == 0u && base + team < all {
            logits[row] = logit;
        }
        let candidate = vec2<u32>(key_of(logit), row);
        if before(candidate, likeliest) {
            likeliest = candidate;
        }
    }
    likeliest = likeliest_of_all(likeliest, local);
    if local == 0u {
        kept[group.x] = likeliest;
    }
}
