// Estimates of all logits from a shadow of the head (shadow.wgsl), and how far they may be off.
//
// With x̂ = t·p (screen_row.wgsl) and ŵ = s·q: |w·x − ŵ·x̂| ≤ ‖w − ŵ‖·‖x‖ + ‖ŵ‖·‖x − x̂‖ by Cauchy and Schwarz. With the
// roundings of the logit itself, γ·‖w‖·‖x‖, that is E·weights.x + N·weights.y + weights.z. The integers are exact.
//
// Out: most, [ROWS], what a logit is at most; least, for each workgroup what the highest of its logits is at least. The token
// with the highest logit has a `most` of no less than the highest `least` (screened.wgsl).
//
// Teams take EACH rows, one after the other; a lane keeps its part of p. Lines behind `each` stand for the vectors of a part.
// Grid (⌈ROWS / (TEAMS·EACH)⌉). Reads ROWS·COLS bytes. Constants: ROWS, VECTORS (of a row), PADDED, EACH, THREADS, LANES.

@group(0) @binding(0) var<storage, read> rounded: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> shadow: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> most: array<f32>;
@group(0) @binding(4) var<storage, read_write> least: array<f32>;

const LOWEST: f32 = -3.4028234e38;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = local % LANES;
    let first = (group.x * (THREADS / LANES) + local / LANES) * EACH;
//each     let upper@ = rounded[lane + @u * LANES];
//each     let lower@ = rounded[PADDED + lane + @u * LANES];
    let weights = bitcast<vec4<f32>>(rounded[2u * PADDED]);
    var highest = LOWEST;
    for (var r = 0u; r < EACH; r++) {
        // Past the last row, that row stands in; past its end the last vector, against zeros.
        let row = min(first + r, ROWS - 1u);
        var uppers = 0;
        var lowers = 0;
//each         let q@ = shadow[row * VECTORS + min(lane + @u * LANES, VECTORS - 1u)];
//each         uppers += dot16(q@, upper@);
//each         lowers += dot16(q@, lower@);
        let sum = f32(lanes_sum_i32(uppers, local)) * 128.0 + f32(lanes_sum_i32(lowers, local));
        let bound = bounds[row];
        let middle = sum * (bound.x * weights.x);
        let error = bound.y * weights.y + bound.z * weights.z + weights.w;
        if lane == 0u && first + r < ROWS {
            most[row] = middle + error;
        }
        highest = max(highest, middle - error);
    }
    let total = workgroup_sum_max(vec2<f32>(0.0, highest), local).y;
    if local == 0u {
        least[group.x] = total;
    }
}
