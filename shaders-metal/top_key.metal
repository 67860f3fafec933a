// The order of candidates: a key that grows with the logit, and the id, of which the lower comes first.

#define MARK 0xffffffffu
// Comes after every candidate.
#define NOBODY uint2(0u, 0xffffffffu)

// 0 for a marked logit, the greatest for one that is not finite. Both zeros are equal.
inline uint key_of(uint bits) {
    if (bits == MARK) {
        return 0u;
    }
    if ((bits & 0x7f800000u) == 0x7f800000u) {
        return 0xffffffffu;
    }
    if (bits == 0x80000000u) {
        return 0x80000000u;
    }
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// Whether a comes before b.
inline bool before(uint2 a, uint2 b) {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}
