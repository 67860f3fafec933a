// Puts the pieces of a split context together (attend.wgsl).
//
// In: for each token, head and piece, 4·DIM4 sums of values, the maximum and the sum of weights. Out: [tokens,
// QUERY_HEADS·DIM]. Grid (QUERY_HEADS, tokens), one invocation for a column.
// Constants: QUERY_HEADS, DIM, DIM4, CHUNK, THREADS.

@group(0) @binding(0) var<storage, read> pieces: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> step: Step;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let token = group.y;
    // As many as the last token of the batch needs; those past this token's positions weigh nothing.
    let count = (step.first + step.count + CHUNK - 1u) / CHUNK;
    let stride = 4u * DIM4 + 2u;
    let first = (token * QUERY_HEADS + head) * count * stride;
    var most = pieces[first + 4u * DIM4];
    for (var i = 1u; i < count; i++) {
        most = max(most, pieces[first + i * stride + 4u * DIM4]);
    }
    for (var column = local; column < DIM; column += THREADS) {
        var sum = 0.0;
        var weight_sum = 0.0;
        for (var i = 0u; i < count; i++) {
            let piece = first + i * stride;
            let shrink = exp(pieces[piece + 4u * DIM4] - most);
            sum += pieces[piece + column] * shrink;
            weight_sum += pieces[piece + 4u * DIM4 + 1u] * shrink;
        }
        out[token * (QUERY_HEADS * DIM) + head * DIM + column] = sum / weight_sum;
    }
}
