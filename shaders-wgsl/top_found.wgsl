// Candidates of a later round of top.wgsl and best.wgsl: those that the round before kept, [ROWS, COUNT].

@group(0) @binding(0) var<storage, read> found: array<vec2<u32>>;

fn candidate(row: u32, index: u32) -> vec2<u32> {
    if index >= COUNT {
        return NOBODY;
    }
    return found[row * COUNT + index];
}
