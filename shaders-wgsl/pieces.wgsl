// Attention of a context in pieces (attend.wgsl), put together: for each token, head of queries and piece, DIM4 vectors of sums
// of values, then one vector of the maximum and the sum of the weights. x: [tokens][QUERY_HEADS][pieces][DIM4 + 1] vectors of four.
//
// Lines behind `each` stand for PIECES_AT_ONCE pieces, with @ for 0, 1, …: their loads are under way together. Only long contexts have
// more; pieces that weigh nothing change no bit.
//
// Constants: QUERY_HEADS, DIM4, PIECES_AT_ONCE. Needs x and step.

// Columns 4·chunk and the next three of a head.
fn together4(token: u32, head: u32, chunk: u32) -> vec4<f32> {
    // As many as the row with the most has; those past this row's positions weigh nothing.
    let count = step.pieces;
    let first = (token * QUERY_HEADS + head) * count * (DIM4 + 1u);
    var most = x[first + DIM4].x;
    var sum = vec4<f32>();
    var weight = 0.0;
    for (var begin = 0u; begin < count; begin += PIECES_AT_ONCE) {
//each         let at@ = first + min(begin + @u, count - 1u) * (DIM4 + 1u);
//each         let value@ = x[at@ + chunk];
//each         let state@ = x[at@ + DIM4].xy;
        let before = most;
//each         most = max(most, state@.x);
        let shrink = exp(before - most);
        sum *= shrink;
        weight *= shrink;
//each         let shrink@ = select(0.0, exp(state@.x - most), begin + @u < count);
//each         sum += value@ * shrink@;
//each         weight += state@.y * shrink@;
    }
    return sum / weight;
}
