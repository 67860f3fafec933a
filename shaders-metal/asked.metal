// Rows of a batch that the head is asked about.
//
// asked: how many, pairs in the answer for each, and two words more; then for each row its number in the batch, where the likeliest
// token of its sequence is kept (2³² − 1: nowhere), and the first and the number of its tokens among those that are listed at
// the end.

inline uint entries(device const uint* asked) {
    return asked[1];
}

// Keeps the likeliest token of the sequence of a row, as the one that comes next.
inline void keep_likeliest(device const uint* asked, device uint* likeliest_of, uint row, uint id) {
    const uint place = asked[5u + 4u * row];
    if (place != 0xffffffffu) {
        likeliest_of[place] = id;
    }
}
