// The sums of gemv.wgsl where every GROUP columns have a scale: a lane takes whole groups, and floats are added from the
// first group to the last, as on a CPU.

const GROUP_WORDS: u32 = GROUP / 16u;

var<workgroup> group_totals: array<f32, ROWS_AT_ONCE * GROUPS>;

struct Share {
    nothing: u32,
}

fn share(matrix: u32, row: u32, lane: u32) -> Share {
    return Share(0u);
}

// Σ over groups of (Σ (code − 1)·q)·d, from the first group to the last; all invocations together.
fn total(own: Share, matrix: u32, row: u32, lane: u32, local: u32, q_sum: i32) -> f32 {
    let first = HEADER + row * WORDS;
    let scales = HEADER + rows_of(matrix) * WORDS + row * GROUPS;
    let team = local / LANES * GROUPS;
    workgroupBarrier();
    for (var group = lane; group < GROUPS; group += LANES) {
        var sum = 0;
        for (var i = 0u; i < GROUP_WORDS; i++) {
            let w = group * GROUP_WORDS + i;
            sum += dots(code_word(matrix, first + w), w);
            sum -= dot4(0x01010101u, quantized[w]) + dot4(0x01010101u, quantized[PLANE + w])
                + dot4(0x01010101u, quantized[2u * PLANE + w]) + dot4(0x01010101u, quantized[3u * PLANE + w]);
        }
        group_totals[team + group] = f32(sum) * bitcast<f32>(code_word(matrix, scales + group));
    }
    workgroupBarrier();
    var all = 0.0;
    for (var group = 0u; group < GROUPS; group++) {
        all += group_totals[team + group];
    }
    return all;
}
