// Up to three ternary matrices, whose rows are numbered one after the other's.
//
// Matrix: a header of four words, the first the bits of the factor; then rows of WORDS words, word w holding columns 16w to
// 16w + 15: code of column 16w + 4j + b at bits 8b + 2j, so that (word >> 2j) & 0x03030303 are four neighbours as int8;
// then, if every GROUP columns have one, the f32 scales d, row after row.
//
// Constants: ROWS0, ROWS1, ROWS2 (0 where there is none), OUT0, OUT1, OUT2 (where their products go), WORDS.

#define HEADER 4u
#define PAIRS 0x03030303u

struct Matrices {
    device const uint* words[3];
};

inline uint rows_of(uint matrix) {
    return matrix == 0u ? ROWS0 : matrix == 1u ? ROWS1 : ROWS2;
}

// The column of a matrix's first product.
inline uint out_of(uint matrix) {
    return matrix == 0u ? OUT0 : matrix == 1u ? OUT1 : OUT2;
}

// All of a matrix. Without a branch where there is only one.
inline device const uint* words_of(Matrices matrices, uint matrix) {
    if (ROWS1 == 0u || matrix == 0u) {
        return matrices.words[0];
    }
    return ROWS2 == 0u || matrix == 1u ? matrices.words[1] : matrices.words[2];
}

inline float factor_of(Matrices matrices, uint matrix) {
    return as_type<float>(words_of(matrices, matrix)[0]);
}

// Where the scales of a row begin.
inline device const float* scales_of(Matrices matrices, uint matrix, uint row) {
    return (device const float*)(words_of(matrices, matrix) + HEADER + rows_of(matrix) * WORDS + row * GROUPS);
}
