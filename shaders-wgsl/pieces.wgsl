// Attention of a context in pieces (attend.wgsl), put together: for each token, head of queries and piece, DIM4 vectors of sums
// of values, then one vector of the maximum and the sum of the weights. x: [tokens][QUERY_HEADS][pieces][DIM4 + 1] vectors of four.
//
// Lines behind `each` stand for as many pieces as there may be, with @ for 0, 1, …: all loads are under way together.
//
// Constants: QUERY_HEADS, DIM4. Needs x and step.

// Columns 4·chunk and the next three of a head.
fn together4(token: u32, head: u32, chunk: u32) -> vec4<f32> {
    // As many as the row with the most has; those past this row's positions weigh nothing.
    let count = step.pieces;
    let first = (token * QUERY_HEADS + head) * count * (DIM4 + 1u);
//each     let at@ = first + min(@u, count - 1u) * (DIM4 + 1u);
//each     let value@ = x[at@ + chunk];
//each     let state@ = x[at@ + DIM4].xy;
    var most = state0.x;
//each     most = max(most, state@.x);
    var sum = vec4<f32>();
    var weight = 0.0;
//each     let shrink@ = select(0.0, exp(state@.x - most), @u < count);
//each     sum += value@ * shrink@;
//each     weight += state@.y * shrink@;
    return sum / weight;
}
