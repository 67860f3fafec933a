// What changes from one batch of a session to the next; 32 bytes.

struct Step {
    // The position of the batch's first token.
    uint first;
    // Its tokens.
    uint count;
    // Positions that the cache has room for.
    uint room;
    // The first row of the batch that the head is asked about.
    uint asked;
    // Pairs in the answer for a row.
    uint entries;
    // Positions of a piece of the context, where attention takes it in pieces.
    uint piece;
    uint reserved[2];
};
