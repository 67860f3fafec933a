// What the sums of gemv.metal share: where rows lie, and sixteen activations of a rounded row, widened, times a word of codes.

// Where an index among all rows leads: past the last row, that row stands in.
struct Place {
    uint matrix;
    uint row;
};

inline Place place_of(uint index) {
    if (EPILOGUE == 2u) {
        return Place{0u, min(index, ROWS0 - 1u)};
    }
    const uint row = min(index, ROWS0 + ROWS1 + ROWS2 - 1u);
    if (row >= ROWS0 + ROWS1) {
        return Place{2u, row - ROWS0 - ROWS1};
    }
    if (row >= ROWS0) {
        return Place{1u, row - ROWS0};
    }
    return Place{0u, row};
}

// Word j of four columns of word w of a row lies at j·PLANE + w; eight words apart, so that banks differ.
#define PLANE (PADDED + 8u)

struct Sixteen {
    float4 four[4];
};

inline Sixteen widened(threadgroup const char4* quantized, uint w) {
    Sixteen x;
    for (uint j = 0u; j < 4u; j++) {
        x.four[j] = float4(quantized[j * PLANE + w]);
    }
    return x;
}

inline float sum_of(Sixteen x) {
    const float4 sums = x.four[0] + x.four[1] + x.four[2] + x.four[3];
    return sums.x + sums.y + sums.z + sums.w;
}

// Σ code·q of a word.
inline float dots(uint word, Sixteen x) {
    float sum = 0.0f;
    for (uint j = 0u; j < 4u; j++) {
        sum += dot(float4(as_type<uchar4>((word >> (2u * j)) & PAIRS)), x.four[j]);
    }
    return sum;
}

// A sum for each of the rows that a simdgroup multiplies.
struct Totals {
    float rows[EACH];
};
