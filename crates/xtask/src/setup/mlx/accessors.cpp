// What mlx-c has on ARM and mlx-rs expects everywhere: access to halves, and a clock of macOS.
#include <cstdint>
#include <cstring>
#include <ctime>
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/mlx.h"

namespace {

template <typename T>
int item_bits(uint16_t* bits, mlx_array array) {
  try {
    T value = mlx_array_get_(array).item<T>();
    std::memcpy(bits, &value, sizeof *bits);
    return 0;
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

template <typename T>
const uint16_t* data_bits(mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).data<T>());
  } catch (std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

} // namespace

extern "C" {

int mlx_array_item_float16(uint16_t* bits, const mlx_array array) {
  return item_bits<mlx::core::float16_t>(bits, array);
}

int mlx_array_item_bfloat16(uint16_t* bits, const mlx_array array) {
  return item_bits<mlx::core::bfloat16_t>(bits, array);
}

const uint16_t* mlx_array_data_float16(const mlx_array array) {
  return data_bits<mlx::core::float16_t>(array);
}

const uint16_t* mlx_array_data_bfloat16(const mlx_array array) {
  return data_bits<mlx::core::bfloat16_t>(array);
}

uint64_t mach_approximate_time(void) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}
}
