// The sums of gemv.wgsl where the scale belongs to the tensor: words of a row go to lanes in turn. Lines behind `each` stand
// for as many as a lane has words.

// The words of one row that a lane multiplies.
struct Share {
//each     word@: u32,
}

fn share(matrix: u32, row: u32, lane: u32) -> Share {
    var own: Share;
    let first = HEADER + row * WORDS;
    // Past the end the last word stands in, against zeros.
//each     own.word@ = code_word(matrix, first + min(lane + @u * LANES, WORDS - 1u));
    return own;
}

// Σ (code − 1)·q of the row; all invocations together.
fn total(own: Share, matrix: u32, row: u32, lane: u32, local: u32, q_sum: i32) -> f32 {
    var sum = 0;
//each     sum += dots(own.word@, lane + @u * LANES);
    return f32(lanes_sum_i32(sum, local) - q_sum);
}
