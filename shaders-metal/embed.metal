// Rows of a table: out[i] = table[id of token i], [tokens, COLS] f32. An id is the last word of a place (place.metal), or that says
// in which place it was kept as the likeliest of its sequence (asked.metal).
//
// A table may be split by rows over several buffers; this dispatch writes the tokens whose rows are in its own, FIRST to
// FIRST + ROWS − 1, and leaves the others to theirs. Buffers 0 and 1 are those of rows that a table multiplies, and not used.
// Grid (tokens). Reads a row of the table a token.
// Constants: those of the format's file, FIRST, ROWS, OUT_STRIDE.

#define LIKELIEST 0x80000000u

kernel void embed(
    device const uint* table [[buffer(2)]],
    device const uint* places [[buffer(3)]],
    device float* out [[buffer(4)]],
    device const uint* likeliest_of [[buffer(5)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint token = group.x;
    uint id = places[4u * token + 3u];
    if (id >= LIKELIEST) {
        id = likeliest_of[id - LIKELIEST];
    }
    if (id < FIRST || id - FIRST >= ROWS) {
        return;
    }
    const float scale = header_of(table, 1u);
    for (uint chunk = local; 4u * chunk < COLS; chunk += THREADS) {
        const float4 four = weight4(table, id - FIRST, chunk) * scale;
        for (uint c = 0u; c < min(4u, COLS - 4u * chunk); c++) {
            out[token * OUT_STRIDE + 4u * chunk + c] = four[c];
        }
    }
}
