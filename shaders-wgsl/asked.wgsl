// Rows of a batch that the head is asked about.
//
// asked: how many, pairs in the answer for each, and two words more; then for each row its number in the batch, where the likeliest
// token of its sequence is kept (2³² − 1: nowhere), and the first and the number of its tokens among those that are listed at
// the end.
//
// Constants: ASKED_BINDING.

@group(0) @binding(ASKED_BINDING) var<storage, read> asked: array<u32>;

fn entries() -> u32 {
    return asked[1];
}

// Keeps the likeliest token of the sequence of a row, as the one that comes next.
fn keep_likeliest(row: u32, id: u32) {
    let place = asked[5u + 4u * row];
    if place != 0xffffffffu {
        likeliest_of[place] = id;
    }
}
