// What changes from one batch of a session to the next; 32 bytes.

struct Step {
    // The position of the batch's first token.
    first: u32,
    // Its tokens.
    count: u32,
    // Positions that the cache has room for.
    room: u32,
    // The first row of the batch that the head is asked about.
    asked: u32,
    // Pairs in the answer for a row.
    entries: u32,
    // Positions of a piece of the context, where attention takes it in pieces.
    piece: u32,
    reserved0: u32,
    reserved1: u32,
}
