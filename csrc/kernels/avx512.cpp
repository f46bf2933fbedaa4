#include <immintrin.h>

#include "kernel_abi.hpp"

// AVX-512 F+BW+VL+DQ. Tails are masked, so that no length falls back to scalar code.

namespace routellm_fast {
namespace {

__mmask16 first_lanes16(std::size_t n) noexcept { return static_cast<__mmask16>((1U << n) - 1U); }

// Fixed tree: the same order on every call. _mm512_reduce_add_ps would do, but its order is the compiler's.
float reduce_f32x16(__m512 v_f32x16) noexcept {
  const __m256 half_f32x8 = _mm256_add_ps(_mm512_castps512_ps256(v_f32x16), _mm512_extractf32x8_ps(v_f32x16, 1));
  const __m128 quarter_f32x4 = _mm_add_ps(_mm256_castps256_ps128(half_f32x8), _mm256_extractf128_ps(half_f32x8, 1));
  const __m128 pair_f32x4 = _mm_add_ps(quarter_f32x4, _mm_movehl_ps(quarter_f32x4, quarter_f32x4));
  return _mm_cvtss_f32(_mm_add_ss(pair_f32x4, _mm_movehdup_ps(pair_f32x4)));
}

float dot_f32(const float* a, const float* b, std::size_t n) noexcept {
  __m512 sum0_f32x16 = _mm512_setzero_ps();
  __m512 sum1_f32x16 = _mm512_setzero_ps();
  __m512 sum2_f32x16 = _mm512_setzero_ps();
  __m512 sum3_f32x16 = _mm512_setzero_ps();
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    sum0_f32x16 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum0_f32x16);
    sum1_f32x16 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), sum1_f32x16);
    sum2_f32x16 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), sum2_f32x16);
    sum3_f32x16 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), sum3_f32x16);
  }
  for (; i < n; i += 16) {
    const __mmask16 mask = n - i < 16 ? first_lanes16(n - i) : static_cast<__mmask16>(0xFFFF);
    sum0_f32x16 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i), sum0_f32x16);
  }
  return reduce_f32x16(_mm512_add_ps(_mm512_add_ps(sum0_f32x16, sum1_f32x16), _mm512_add_ps(sum2_f32x16, sum3_f32x16)));
}

void matvec_f32(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                float* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) out[r] = dot_f32(rows + r * stride, x, dim);
}

std::int32_t dot_i8(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept {
  __m512i sum_i32x16 = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 32) {
    const __mmask32 mask = n - i < 32 ? (1U << (n - i)) - 1U : 0xFFFFFFFFU;
    const __m512i a_i16x32 = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, a + i));
    const __m512i b_i16x32 = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, b + i));
    sum_i32x16 = _mm512_add_epi32(sum_i32x16, _mm512_madd_epi16(a_i16x32, b_i16x32));
  }
  return _mm512_reduce_add_epi32(sum_i32x16);
}

constexpr std::size_t kRowsPerFlush = 255;  // 255 * 128 <= 2^15 - 1: the int16 sums cannot overflow

__mmask32 columns32(std::size_t n) noexcept { return n >= 32 ? 0xFFFFFFFFU : (1U << n) - 1U; }

void add_i16x32(__m512i sum_i16x32, std::size_t columns, std::int32_t* out) noexcept {
  const __m512i low_i32x16 = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum_i16x32));
  const __m512i high_i32x16 = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum_i16x32, 1));
  const __mmask32 mask = columns32(columns);
  const auto low_mask = static_cast<__mmask16>(mask & 0xFFFFU);
  const auto high_mask = static_cast<__mmask16>(mask >> 16U);
  _mm512_mask_storeu_epi32(out, low_mask, _mm512_add_epi32(_mm512_maskz_loadu_epi32(low_mask, out), low_i32x16));
  _mm512_mask_storeu_epi32(out + 16, high_mask,
                           _mm512_add_epi32(_mm512_maskz_loadu_epi32(high_mask, out + 16), high_i32x16));
}

// Sums 256 columns of up to kRowsPerFlush rows in eight int16 registers: four cache lines a row, each touched once.
void add_rows_256(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                  std::int32_t* out) noexcept {
  __m512i sum_i16x32[8];
  for (__m512i& sum : sum_i16x32) sum = _mm512_setzero_si512();
  for (std::size_t t = 0; t < n; ++t) {
    const std::int8_t* row = table + static_cast<std::size_t>(ids[t]) * dim;
    for (std::size_t k = 0; k < 8; ++k) {
      sum_i16x32[k] = _mm512_add_epi16(
          sum_i16x32[k], _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 32 * k))));
    }
  }
  for (std::size_t k = 0; k < 8; ++k) add_i16x32(sum_i16x32[k], 32, out + 32 * k);
}

void add_rows_32(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                 std::size_t columns, std::int32_t* out) noexcept {
  const __mmask32 mask = columns32(columns);
  __m512i sum_i16x32 = _mm512_setzero_si512();
  for (std::size_t t = 0; t < n; ++t) {
    const std::int8_t* row = table + static_cast<std::size_t>(ids[t]) * dim;
    sum_i16x32 = _mm512_add_epi16(sum_i16x32, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, row)));
  }
  add_i16x32(sum_i16x32, columns, out);
}

void sum_rows_i8(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                 std::int32_t* out) noexcept {
  for (std::size_t d = 0; d < dim; ++d) out[d] = 0;
  for (std::size_t begin = 0; begin < n; begin += kRowsPerFlush) {
    const std::size_t rows = n - begin < kRowsPerFlush ? n - begin : kRowsPerFlush;
    std::size_t d = 0;
    for (; d + 256 <= dim; d += 256) add_rows_256(table + d, dim, ids + begin, rows, out + d);
    for (; d < dim; d += 32) {
      add_rows_32(table + d, dim, ids + begin, rows, dim - d < 32 ? dim - d : 32, out + d);
    }
  }
}

void sum_rows_f32(const float* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                  const std::uint32_t* rows, const float* weights, float* out) noexcept {
  std::size_t d = 0;
  for (; d + 128 <= dim; d += 128) {
    __m512 sum_f32x16[8];
    for (__m512& sum : sum_f32x16) sum = _mm512_setzero_ps();
    for (std::size_t t = 0; t < n; ++t) {
      const std::size_t index = rows == nullptr ? ids[t] : rows[ids[t]];
      const __m512 weight_f32x16 = _mm512_set1_ps(weights == nullptr ? 1.0F : weights[ids[t]]);
      const float* row = table + index * dim + d;
      for (std::size_t k = 0; k < 8; ++k) {
        sum_f32x16[k] = _mm512_fmadd_ps(weight_f32x16, _mm512_loadu_ps(row + 16 * k), sum_f32x16[k]);
      }
    }
    for (std::size_t k = 0; k < 8; ++k) _mm512_storeu_ps(out + d + 16 * k, sum_f32x16[k]);
  }
  for (; d < dim; d += 16) {
    const __mmask16 mask = dim - d < 16 ? first_lanes16(dim - d) : static_cast<__mmask16>(0xFFFF);
    __m512 sum_f32x16 = _mm512_setzero_ps();
    for (std::size_t t = 0; t < n; ++t) {
      const std::size_t index = rows == nullptr ? ids[t] : rows[ids[t]];
      const __m512 weight_f32x16 = _mm512_set1_ps(weights == nullptr ? 1.0F : weights[ids[t]]);
      sum_f32x16 = _mm512_fmadd_ps(weight_f32x16, _mm512_maskz_loadu_ps(mask, table + index * dim + d), sum_f32x16);
    }
    _mm512_mask_storeu_ps(out + d, mask, sum_f32x16);
  }
}

std::size_t first_nonfinite_f32(const float* x, std::size_t n) noexcept {
  constexpr int kNanOrInfinity = 0x99;  // quiet NaN | +infinity | -infinity | signalling NaN
  for (std::size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i < 16 ? first_lanes16(n - i) : static_cast<__mmask16>(0xFFFF);
    const unsigned found = _mm512_fpclass_ps_mask(_mm512_maskz_loadu_ps(mask, x + i), kNanOrInfinity);
    if (found != 0) return i + static_cast<std::size_t>(__builtin_ctz(found));
  }
  return n;
}

}  // namespace

constinit const KernelTable kKernelsAvx512 = {.dot_f32 = dot_f32,
                                              .matvec_f32 = matvec_f32,
                                              .dot_i8 = dot_i8,
                                              .sum_rows_i8 = sum_rows_i8,
                                              .sum_rows_f32 = sum_rows_f32,
                                              .first_nonfinite_f32 = first_nonfinite_f32};

}  // namespace routellm_fast
