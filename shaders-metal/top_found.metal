// Candidates of a later round of top.metal and best.metal: those that the round before kept, [ROWS, COUNT].

typedef uint2 Given;

inline uint2 candidate(device const Given* given, uint row, uint index) {
    return index < COUNT ? given[row * COUNT + index] : NOBODY;
}
