// Where each row of a batch belongs.
//
// places: for each row its position in its sequence, where the table of the sequence's blocks begins, the positions of a piece of its
// context, and the token; then for each tile of attention (attend_tile.wgsl) its first row, the position of that, how many rows, and
// where the table begins; then the tables, a number of a block for each BLOCK_POSITIONS positions.
//
// Rows that attend by themselves come first, in three classes: with short, longer and long pieces.
//
// Constants: PLACES (the binding).

@group(0) @binding(PLACES) var<storage, read> places: array<u32>;

// Where the table of the sequence at hand begins.
var<private> blocks_at: u32;
