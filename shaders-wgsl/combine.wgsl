// Puts the pieces of a split context together (attend.wgsl).
//
// In: for each token, head and piece, 4·DIM4 sums of values, the maximum and the sum of weights. Out: [tokens,
// QUERY_HEADS·DIM]. Lines behind `each` stand for four loads under way, with @ for 0 to 3.
//
// Grid (QUERY_HEADS, tokens), one invocation for a column.
// Constants: QUERY_HEADS, DIM, DIM4, CHUNK, MOST (pieces), THREADS.

@group(0) @binding(0) var<storage, read> pieces: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> step: Step;

// What sums of a piece are multiplied by, and its part of the sum of weights.
var<workgroup> shrinks: array<f32, MOST>;
var<workgroup> shares: array<f32, MOST>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let token = group.y;
    // As many as the last token of the batch needs; those past this token's positions weigh nothing.
    let count = min((step.first + step.count + CHUNK - 1u) / CHUNK, MOST);
    let stride = 4u * DIM4 + 2u;
    let first = (token * QUERY_HEADS + head) * count * stride;
    for (var i = local; i < count; i += THREADS) {
        shrinks[i] = pieces[first + i * stride + 4u * DIM4];
        shares[i] = pieces[first + i * stride + 4u * DIM4 + 1u];
    }
    workgroupBarrier();
    var most = shrinks[0];
    for (var i = 1u; i < count; i++) {
        most = max(most, shrinks[i]);
    }
    workgroupBarrier();
    for (var i = local; i < count; i += THREADS) {
        let shrink = exp(shrinks[i] - most);
        shrinks[i] = shrink;
        shares[i] *= shrink;
    }
    workgroupBarrier();
    var weight_sum = 0.0;
    for (var i = 0u; i < count; i++) {
        weight_sum += shares[i];
    }
    for (var column = local; column < DIM; column += THREADS) {
        var sum = 0.0;
        for (var i = 0u; i < count; i += 4u) {
//each             let piece@ = pieces[first + min(i + @u, count - 1u) * stride + column];
//each             sum += piece@ * select(0.0, shrinks[min(i + @u, count - 1u)], i + @u < count);
        }
        out[token * (QUERY_HEADS * DIM) + head * DIM + column] = sum / weight_sum;
    }
}
