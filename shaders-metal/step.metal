// What changes from one batch to the next; 16 bytes.

struct Step {
    // Its rows.
    uint count;
    // Pieces of the context that attention leaves of a row.
    uint pieces;
    // The first rows of the second and the third class (place.metal).
    uint second;
    uint third;
};
