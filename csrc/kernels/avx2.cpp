#include <immintrin.h>

#include "kernel_abi.hpp"

// AVX2 + FMA. Loads are unaligned throughout: on every processor with AVX2 they cost nothing extra inside a cache line.

namespace routellm_fast {
namespace {

float reduce_f32x8(__m256 v_f32x8) noexcept {
  const __m128 half_f32x4 = _mm_add_ps(_mm256_castps256_ps128(v_f32x8), _mm256_extractf128_ps(v_f32x8, 1));
  const __m128 pair_f32x4 = _mm_add_ps(half_f32x4, _mm_movehl_ps(half_f32x4, half_f32x4));
  return _mm_cvtss_f32(_mm_add_ss(pair_f32x4, _mm_movehdup_ps(pair_f32x4)));
}

// Two loads feed one multiply-add, so four chains hide its latency of four cycles at one a cycle.
float dot_f32(const float* a, const float* b, std::size_t n) noexcept {
  __m256 sum0_f32x8 = _mm256_setzero_ps();
  __m256 sum1_f32x8 = _mm256_setzero_ps();
  __m256 sum2_f32x8 = _mm256_setzero_ps();
  __m256 sum3_f32x8 = _mm256_setzero_ps();
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    sum0_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sum0_f32x8);
    sum1_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), sum1_f32x8);
    sum2_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), sum2_f32x8);
    sum3_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), sum3_f32x8);
  }
  for (; i + 8 <= n; i += 8) {
    sum0_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sum0_f32x8);
  }
  float sum = reduce_f32x8(_mm256_add_ps(_mm256_add_ps(sum0_f32x8, sum1_f32x8), _mm256_add_ps(sum2_f32x8, sum3_f32x8)));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void matvec_f32(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                float* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) out[r] = dot_f32(rows + r * stride, x, dim);
}

// Bytes widen to int16 first: the unsigned-by-signed product of AVX2 saturates, this cannot.
std::int32_t dot_i8(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept {
  __m256i sum_i32x8 = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i a_i16x16 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i)));
    const __m256i b_i16x16 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i)));
    sum_i32x8 = _mm256_add_epi32(sum_i32x8, _mm256_madd_epi16(a_i16x16, b_i16x16));
  }
  __m128i sum_i32x4 = _mm_add_epi32(_mm256_castsi256_si128(sum_i32x8), _mm256_extracti128_si256(sum_i32x8, 1));
  sum_i32x4 = _mm_add_epi32(sum_i32x4, _mm_shuffle_epi32(sum_i32x4, 0x4E));
  sum_i32x4 = _mm_add_epi32(sum_i32x4, _mm_shuffle_epi32(sum_i32x4, 0xB1));
  std::int32_t sum = _mm_cvtsi128_si32(sum_i32x4);
  for (; i < n; ++i) sum += static_cast<std::int32_t>(a[i]) * static_cast<std::int32_t>(b[i]);
  return sum;
}

constexpr std::size_t kRowsPerFlush = 255;  // 255 * 128 <= 2^15 - 1: the int16 sums cannot overflow

// Sums 128 columns of up to kRowsPerFlush rows in eight int16 registers and adds them to out.
void add_rows_128(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                  std::int32_t* out) noexcept {
  __m256i sum_i16x16[8];
  for (__m256i& sum : sum_i16x16) sum = _mm256_setzero_si256();
  for (std::size_t t = 0; t < n; ++t) {
    const std::int8_t* row = table + static_cast<std::size_t>(ids[t]) * dim;
    for (std::size_t k = 0; k < 8; ++k) {
      sum_i16x16[k] = _mm256_add_epi16(
          sum_i16x16[k], _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 16 * k))));
    }
  }
  for (std::size_t k = 0; k < 8; ++k) {
    auto* target = reinterpret_cast<__m256i*>(out + 16 * k);
    const __m256i low_i32x8 = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum_i16x16[k]));
    const __m256i high_i32x8 = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum_i16x16[k], 1));
    _mm256_storeu_si256(target, _mm256_add_epi32(_mm256_loadu_si256(target), low_i32x8));
    _mm256_storeu_si256(target + 1, _mm256_add_epi32(_mm256_loadu_si256(target + 1), high_i32x8));
  }
}

void sum_rows_i8(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                 std::int32_t* out) noexcept {
  for (std::size_t d = 0; d < dim; ++d) out[d] = 0;
  for (std::size_t begin = 0; begin < n; begin += kRowsPerFlush) {
    const std::size_t rows = n - begin < kRowsPerFlush ? n - begin : kRowsPerFlush;
    std::size_t d = 0;
    for (; d + 128 <= dim; d += 128) add_rows_128(table + d, dim, ids + begin, rows, out + d);
    if (d == dim) continue;
    for (std::size_t t = begin; t < begin + rows; ++t) {
      const std::int8_t* row = table + static_cast<std::size_t>(ids[t]) * dim;
      for (std::size_t column = d; column < dim; ++column) out[column] += row[column];
    }
  }
}

void sum_rows_f32(const float* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                  const std::uint32_t* rows, const float* weights, float* out) noexcept {
  std::size_t d = 0;
  for (; d + 64 <= dim; d += 64) {
    __m256 sum_f32x8[8];
    for (__m256& sum : sum_f32x8) sum = _mm256_setzero_ps();
    for (std::size_t t = 0; t < n; ++t) {
      const std::size_t index = rows == nullptr ? ids[t] : rows[ids[t]];
      const __m256 weight_f32x8 = _mm256_set1_ps(weights == nullptr ? 1.0F : weights[ids[t]]);
      const float* row = table + index * dim + d;
      for (std::size_t k = 0; k < 8; ++k) {
        sum_f32x8[k] = _mm256_fmadd_ps(weight_f32x8, _mm256_loadu_ps(row + 8 * k), sum_f32x8[k]);
      }
    }
    for (std::size_t k = 0; k < 8; ++k) _mm256_storeu_ps(out + d + 8 * k, sum_f32x8[k]);
  }
  for (std::size_t column = d; column < dim; ++column) out[column] = 0.0F;
  for (std::size_t t = 0; t < n && d < dim; ++t) {
    const std::size_t index = rows == nullptr ? ids[t] : rows[ids[t]];
    const float weight = weights == nullptr ? 1.0F : weights[ids[t]];
    for (std::size_t column = d; column < dim; ++column) out[column] += weight * table[index * dim + column];
  }
}

std::size_t first_nonfinite_f32(const float* x, std::size_t n) noexcept {
  const __m256i exponent_i32x8 = _mm256_set1_epi32(0x7F800000);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i bits_i32x8 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    const __m256i full_i32x8 = _mm256_cmpeq_epi32(_mm256_and_si256(bits_i32x8, exponent_i32x8), exponent_i32x8);
    if (_mm256_testz_si256(full_i32x8, full_i32x8) == 0) break;
  }
  for (; i < n; ++i) {
    if (__builtin_isfinite(x[i]) == 0) return i;
  }
  return n;
}

}  // namespace

constinit const KernelTable kKernelsAvx2 = {.dot_f32 = dot_f32,
                                            .matvec_f32 = matvec_f32,
                                            .dot_i8 = dot_i8,
                                            .sum_rows_i8 = sum_rows_i8,
                                            .sum_rows_f32 = sum_rows_f32,
                                            .first_nonfinite_f32 = first_nonfinite_f32};

}  // namespace routellm_fast
