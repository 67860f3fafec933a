// The order of candidates: a key that grows with the logit, and the id, of which the lower comes first.

const MARK: u32 = 0xffffffffu;

// 0 for a marked logit, the greatest for one that is not finite. Both zeros are equal.
fn key_of(bits: u32) -> u32 {
    if bits == MARK {
        return 0u;
    }
    if (bits & 0x7f800000u) == 0x7f800000u {
        return 0xffffffffu;
    }
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// Whether a comes before b.
fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Comes after every candidate.
const NOBODY: vec2<u32> = vec2<u32>(0u, 0xffffffffu);
