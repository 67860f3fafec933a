// Four neighbouring columns of a row of activations, and of gains, wherever rows begin: rows_vec4.metal for widths that
// are no multiple of four.

inline float column_of(device const float* row, uint column) {
    return column < COLS ? row[column] : 0.0f;
}

inline float4 columns_of(device const float* row, uint chunk) {
    const uint c = 4u * chunk;
    return float4(column_of(row, c), column_of(row, c + 1u), column_of(row, c + 2u), column_of(row, c + 3u));
}

inline float4 x4(device const float* x, uint token, uint chunk) {
    return columns_of(x + X_OFFSET + token * X_STRIDE, chunk);
}

inline float4 gain4(device const float* gain, uint chunk) {
    return columns_of(gain, chunk);
}
