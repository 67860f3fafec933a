// Few rows of whole numbers times a ternary matrix in MLX's 2-bit codes, for the MLX backend: it makes a kernel of this
// function by a call in its body, and binds buffers in its own way.
//
// quantized_matmul of MLX does the same. This reads no scales where the tensor has one scale, a fifth of all bytes.

#include <metal_stdlib>
using namespace metal;

// Rows of the matrix that a SIMD group multiplies at once: they share what it reads of the activations.
constant constexpr uint TERNARY_ROWS = 4;

// Σ (code − 1)·x for the rows `first` to `first + TERNARY_ROWS - 1` of a matrix of `rows`, into `out`; of a group of
// GROUP words times its scale, or without scales if GROUP is 0.
//
// `x`: `columns` floats, whole numbers; `columns` is a multiple of 64. `codes`: [rows, columns / 16] words, the first code in the
// lowest bits. `scales`: [rows, columns / 16 / GROUP].
template <uint GROUP>
void ternary_rows(
    device const float* x,
    device const uint* codes,
    device const float* scales,
    device float* out,
    uint columns,
    uint rows,
    uint first,
    uint lane) {
  const uint words = columns / 16u;
  const uint together = GROUP > 0u ? GROUP : 1u;
  float sums[TERNARY_ROWS] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (uint word = lane; word < words; word += 32u) {
    float values[16];
    float all = 0.0f;
    for (uint i = 0u; i < 16u; ++i) {
      values[i] = x[16u * word + i];
      all += values[i];
    }
    for (uint row = 0u; row < TERNARY_ROWS; ++row) {
      // Past the last row, that row stands in, and is not written.
      const uint place = min(first + row, rows - 1u) * words + word;
      const uint packed = codes[place];
      float sum = 0.0f;
      for (uint i = 0u; i < 16u; ++i) {
        sum += float((packed >> (2u * i)) & 3u) * values[i];
      }
      sum -= all;
      sums[row] += GROUP > 0u ? sum * scales[place / together] : sum;
    }
  }
  for (uint row = 0u; row < TERNARY_ROWS; ++row) {
    const float total = simd_sum(sums[row]);
    if (lane == 0u && first + row < rows) {
      out[first + row] = total;
    }
  }
}
