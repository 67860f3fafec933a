// Where each row of a batch belongs.
//
// places: for each row its position in its sequence, where the table of the sequence's blocks begins, the positions of a piece of its
// context, and the token; then for each tile of attention (attend_tile.metal) its first row, the position of that, how many rows, and
// where the table begins; then the tables, a number of a block for each BLOCK_POSITIONS positions.
//
// Rows that attend by themselves come first, in three classes: with short, longer and long pieces.

struct Place {
    uint position;
    // The table of the sequence's blocks.
    device const uint* blocks;
    // Positions of a piece.
    uint piece;
};

inline Place place_at(device const uint* places, uint token) {
    device const uint* own = places + 4u * token;
    return Place{own[0], places + own[1], own[2]};
}

// A tile of attention.
struct Tile {
    uint first_token;
    uint first_position;
    uint count;
    device const uint* blocks;
};

inline Tile tile_at(device const uint* places, uint rows, uint index) {
    device const uint* own = places + 4u * (rows + index);
    return Tile{own[0], own[1], own[2], places + own[3]};
}
