#pragma once

#include <cstddef>
#include <cstdint>

// Put this before a loop over an array of a few registers. Without it the compiler may unroll too late and keep the
// array in memory.
#ifdef __clang__
#define ROUTELLM_FAST_UNROLL _Pragma("unroll")
#else
#define ROUTELLM_FAST_UNROLL _Pragma("GCC unroll 16")
#endif

// The interface of the kernel files, and the only project header that they may include: they are compiled for wider
// instruction sets than the rest, so no inline function may be shared with them.

namespace routellm_fast {

/// Number of rows in a panel of codes. Byte 4 * kPanelRows * (d / 4) + 4 * r + d % 4 of a panel is the code of row r in
/// dimension d. So a vector register holds four dimensions of every row, its lanes are rows, and no sum crosses lanes.
inline constexpr std::size_t kPanelRows = 16;

/// Taylor coefficients of 2^x around 0. On [-1/2, 1/2] all twelve give an error of 1e-14, the first eight of 1e-8.
constexpr double kExp2Taylor[] = {1.0,
                                  6.931471805599453094e-1,  // NOLINT(modernize-use-std-numbers): no other header here
                                  2.402265069591007123e-1,
                                  5.550410866482157995e-2,
                                  9.618129107628477162e-3,
                                  1.333355814642844342e-3,
                                  1.540353039338160996e-4,
                                  1.525273380405984028e-5,
                                  1.321548679014430949e-6,
                                  1.017808600923969973e-7,
                                  7.054911620801123329e-9,
                                  4.445538271870811498e-10};

/// Queries as integers v within +-16,256, one query after the other, with dim values each. Each value is given as a
/// whole, and as two bytes with v = 128 * high + low. Codes have an offset of 128; `bias` removes what it adds.
struct CodedQueries {
  const std::int16_t* whole;
  const std::int8_t* high;
  const std::int8_t* low;
  const std::int32_t* bias;
  const float* step;
  const float* offset;
  std::size_t count;
};

/// One tier's kernels. Pointers need no alignment; lengths may be zero. A kernel's result depends on its arguments
/// alone (fixed order of accumulation), so that a row scores the same alone, in a batch, and on any thread.
struct KernelTable {
  /// Sum of a[i] * b[i], accumulated in float32.
  float (*dot_f32)(const float* a, const float* b, std::size_t n) noexcept;

  /// out[r] = dot_f32(rows + r * stride, x, dim), bitwise, for r < count; stride in elements.
  void (*matvec_f32)(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                     float* out) noexcept;

  /// The same products of float32 values, added in float64.
  void (*matvec_wide)(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                      double* out) noexcept;

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

  /// out[q * out_stride + r] = sum over d of rows[r * stride + d] * queries[q * query_stride + d] in float32. A result
  /// depends on its row and query alone, bitwise, but differs from dot_f32's in its last bits: here each result has a
  /// single chain of additions, so that registers hold many results.
  void (*matmul_f32)(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* queries,
                     std::size_t query_count, std::size_t query_stride, float* out, std::size_t out_stride) noexcept;

  /// Writes the smallest and the largest of n > 0 values. A NaN may be ignored: later results that use it are NaN too.
  void (*range_f32)(const float* x, std::size_t n, float* low, float* high) noexcept;

  /// Sum of 2^(scale * x[i] - shift) in float64, each within 1e-13 relative; below 2^-1000 a power is 2^-1000. Writes
  /// each power to `powers` unless that is null.
  double (*sum_exp2_f64)(const float* x, std::size_t n, double scale, double shift, double* powers) noexcept;

  /// The same for float64 values.
  double (*sum_exp2_wide)(const double* x, std::size_t n, double scale, double shift, double* powers) noexcept;

  /// The same within 3e-7 relative, in float32 with float64 sums; below 2^-100 a power is 2^-100.
  double (*sum_exp2_f32)(const float* x, std::size_t n, float scale, float shift) noexcept;

  /// Writes the indices of the values >= threshold, in order, at most `capacity`; returns how many there are.
  std::size_t (*find_at_least_f32)(const float* x, std::size_t n, float threshold, std::uint32_t* indices,
                                   std::size_t capacity) noexcept;

  /// Approximate dot products of each query q with the rows of panels (see kPanelRows):
  /// out[q * out_stride + r] = offset_q + scales[r] * step_q * float(sum over d of code(r, d) * v_qd - bias_q), the sum
  /// exact modulo 2^32. dim is a multiple of 4.
  void (*score_panels_u8)(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                          const CodedQueries& queries, float* out, std::size_t out_stride) noexcept;
};

extern const KernelTable kKernelsScalar;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;
extern const KernelTable kKernelsAvx512Vnni;  // only the entries that gain from VNNI; null elsewhere

}  // namespace routellm_fast
