#pragma once

#include <cstddef>
#include <cstdint>

// The face of the kernel files, and the only project header that they may include: they are compiled with wider
// instruction sets than the rest, so no inline function may be shared with them.

namespace routellm_fast {

/// One tier's kernels. Pointers need no alignment; lengths may be zero. A kernel's result depends on its arguments
/// alone (fixed order of accumulation), so that a row scores the same alone, in a batch, and on any thread.
struct KernelTable {
  /// Sum of a[i] * b[i], accumulated in float32.
  float (*dot_f32)(const float* a, const float* b, std::size_t n) noexcept;

  /// out[r] = dot_f32(rows + r * stride, x, dim), bitwise, for r < count; stride in elements.
  void (*matvec_f32)(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                     float* out) noexcept;

  /// Sum of a[i] * b[i], exact. |a[i] * b[i]| <= 2^14, so int32 holds n <= 131,071.
  std::int32_t (*dot_i8)(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept;

  /// out[d] = sum over t < n of table[ids[t] * dim + d], exact: int32 holds n < 2^24.
  void (*sum_rows_i8)(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                      std::int32_t* out) noexcept;

  /// out[d] = sum over t < n, in order, of weights[ids[t]] * table[rows[ids[t]] * dim + d], in float32. rows may be
  /// null (identity) and weights may be null (ones).
  void (*sum_rows_f32)(const float* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                       const std::uint32_t* rows, const float* weights, float* out) noexcept;

  /// Index of the first NaN or infinity; n when all values are finite.
  std::size_t (*first_nonfinite_f32)(const float* x, std::size_t n) noexcept;
};

extern const KernelTable kKernelsScalar;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;
extern const KernelTable kKernelsAvx512Vnni;  // only the entries that gain from VNNI; null elsewhere

}  // namespace routellm_fast
