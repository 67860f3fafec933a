// Candidates of the first round of top.wgsl and best.wgsl: the logits, [ROWS, COUNT].

@group(0) @binding(0) var<storage, read> logits: array<u32>;

fn candidate(row: u32, index: u32) -> vec2<u32> {
    if index >= COUNT {
        return NOBODY;
    }
    return vec2<u32>(key_of(logits[row * COUNT + index]), index);
}
