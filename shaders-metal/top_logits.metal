// Candidates of the first round of top.metal and best.metal: the logits, [ROWS, COUNT].

typedef uint Given;

inline uint2 candidate(device const Given* given, uint row, uint index) {
    return index < COUNT ? uint2(key_of(given[row * COUNT + index]), index) : NOBODY;
}
