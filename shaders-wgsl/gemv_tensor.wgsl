// The sums of gemv.wgsl where the scale belongs to the tensor: words of a row go to lanes in turn.

// The words of one row that a lane multiplies.
struct Share {
    words: array<u32, STEPS>,
}

fn share(matrix: u32, row: u32, lane: u32) -> Share {
    var own: Share;
    let first = HEADER + row * WORDS;
    for (var i = 0u; i < STEPS; i++) {
        // Past the end the last word stands in, against zeros.
        own.words[i] = code_word(matrix, first + min(lane + i * LANES, WORDS - 1u));
    }
    return own;
}

// Σ (code − 1)·q of the row; all invocations together.
fn total(own: Share, matrix: u32, row: u32, lane: u32, local: u32, q_sum: i32) -> f32 {
    var sum = 0;
    for (var i = 0u; i < STEPS; i++) {
        let w = lane + i * LANES;
        if w < WORDS {
            sum += dots(own.words[i], w);
        }
    }
    return f32(lanes_sum_i32(sum, local) - q_sum);
}
