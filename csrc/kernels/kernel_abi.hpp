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

/// SHA-256's constants: the first 32 bits of the fractions of the cube roots of the first 64 primes.
constexpr std::uint32_t kSha256Rounds[] = {
    0x428A2F98U, 0x71374491U, 0xB5C0FBCFU, 0xE9B5DBA5U, 0x3956C25BU, 0x59F111F1U, 0x923F82A4U, 0xAB1C5ED5U,
    0xD807AA98U, 0x12835B01U, 0x243185BEU, 0x550C7DC3U, 0x72BE5D74U, 0x80DEB1FEU, 0x9BDC06A7U, 0xC19BF174U,
    0xE49B69C1U, 0xEFBE4786U, 0x0FC19DC6U, 0x240CA1CCU, 0x2DE92C6FU, 0x4A7484AAU, 0x5CB0A9DCU, 0x76F988DAU,
    0x983E5152U, 0xA831C66DU, 0xB00327C8U, 0xBF597FC7U, 0xC6E00BF3U, 0xD5A79147U, 0x06CA6351U, 0x14292967U,
    0x27B70A85U, 0x2E1B2138U, 0x4D2C6DFCU, 0x53380D13U, 0x650A7354U, 0x766A0ABBU, 0x81C2C92EU, 0x92722C85U,
    0xA2BFE8A1U, 0xA81A664BU, 0xC24B8B70U, 0xC76C51A3U, 0xD192E819U, 0xD6990624U, 0xF40E3585U, 0x106AA070U,
    0x19A4C116U, 0x1E376C08U, 0x2748774CU, 0x34B0BCB5U, 0x391C0CB3U, 0x4ED8AA4AU, 0x5B9CCA4FU, 0x682E6FF3U,
    0x748F82EEU, 0x78A5636FU, 0x84C87814U, 0x8CC70208U, 0x90BEFFFAU, 0xA4506CEBU, 0xBEF9A3F7U, 0xC67178F2U};

/// Takes `count` blocks of 64 bytes into the eight words of a SHA-256 state (FIPS 180-4).
void sha256_blocks_scalar(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept;
void sha256_blocks_shani(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept;

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
