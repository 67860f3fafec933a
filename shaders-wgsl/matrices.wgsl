// Up to three ternary matrices, whose rows are numbered one after the other's.
//
// Matrix: a header of four words, the first the bits of the factor; then rows of WORDS words, word w holding columns 16w to
// 16w + 15: code of column 16w + 4j + b at bits 8b + 2j, so that (word >> 2j) & 0x03030303 are four neighbours as int8;
// then, if every GROUP columns have one, the f32 scales d, row after row.
//
// Constants: ROWS0, ROWS1, ROWS2 (0 where there is none), OUT0, OUT1, OUT2 (where their products go), WORDS.

@group(0) @binding(2) var<storage, read> weights0: array<u32>;
@group(0) @binding(3) var<storage, read> weights1: array<u32>;
@group(0) @binding(4) var<storage, read> weights2: array<u32>;

const HEADER: u32 = 4u;
const PAIRS: u32 = 0x03030303u;

fn code_word(matrix: u32, at: u32) -> u32 {
    if ROWS1 == 0u || matrix == 0u {
        return weights0[at];
    }
    if ROWS2 == 0u || matrix == 1u {
        return weights1[at];
    }
    return weights2[at];
}

fn rows_of(matrix: u32) -> u32 {
    return select(select(ROWS2, ROWS1, matrix == 1u), ROWS0, matrix == 0u);
}

// The column of a matrix's first product.
fn out_of(matrix: u32) -> u32 {
    return select(select(OUT2, OUT1, matrix == 1u), OUT0, matrix == 0u);
}

fn factor_of(matrix: u32) -> f32 {
    return bitcast<f32>(code_word(matrix, 0u));
}

struct RowAt {
    matrix: u32,
    row: u32,
}

// The row of a matrix that has this number among those of all; past the last one, that one stands in.
fn row_among(index: u32) -> RowAt {
    let row = min(index, ROWS0 + ROWS1 + ROWS2 - 1u);
    if row >= ROWS0 + ROWS1 {
        return RowAt(2u, row - (ROWS0 + ROWS1));
    }
    if row >= ROWS0 {
        return RowAt(1u, row - ROWS0);
    }
    return RowAt(0u, row);
}
