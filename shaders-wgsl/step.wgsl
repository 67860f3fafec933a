// What changes from one batch to the next; 16 bytes.

struct Step {
    // Its rows.
    count: u32,
    // Pieces of the context that attention leaves of a row.
    pieces: u32,
    // The first rows of the second and the third class (place.wgsl).
    second: u32,
    third: u32,
}
