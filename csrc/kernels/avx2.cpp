#include <immintrin.h>

#include "kernels/kernel_abi.hpp"

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

// kRows rows by kQueries queries, one chain each: four by three fill the sixteen registers.
template <std::size_t kRows, std::size_t kQueries>
void matmul_tile(const float* rows, std::size_t stride, std::size_t dim, const float* queries, std::size_t query_stride,
                 float* out, std::size_t out_stride) noexcept {
  __m256 sum_f32x8[kRows][kQueries];
  ROUTELLM_FAST_UNROLL
  for (auto& row : sum_f32x8) {
    ROUTELLM_FAST_UNROLL
    for (__m256& sum : row) sum = _mm256_setzero_ps();
  }
  std::size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    __m256 query_f32x8[kQueries];
    ROUTELLM_FAST_UNROLL
    for (std::size_t q = 0; q < kQueries; ++q) query_f32x8[q] = _mm256_loadu_ps(queries + q * query_stride + i);
    ROUTELLM_FAST_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256 row_f32x8 = _mm256_loadu_ps(rows + r * stride + i);
      ROUTELLM_FAST_UNROLL
      for (std::size_t q = 0; q < kQueries; ++q) {
        sum_f32x8[r][q] = _mm256_fmadd_ps(row_f32x8, query_f32x8[q], sum_f32x8[r][q]);
      }
    }
  }
  ROUTELLM_FAST_UNROLL
  for (std::size_t q = 0; q < kQueries; ++q) {
    ROUTELLM_FAST_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      float sum = reduce_f32x8(sum_f32x8[r][q]);
      for (std::size_t d = i; d < dim; ++d) sum += rows[r * stride + d] * queries[q * query_stride + d];
      out[q * out_stride + r] = sum;
    }
  }
}

template <std::size_t kRows, std::size_t kQueries>
void matmul_queries(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* queries,
                    std::size_t query_stride, float* out, std::size_t out_stride) noexcept {
  std::size_t r = 0;
  for (; r + kRows <= count; r += kRows) {
    matmul_tile<kRows, kQueries>(rows + r * stride, stride, dim, queries, query_stride, out + r, out_stride);
  }
  for (; r < count; ++r) {
    matmul_tile<1, kQueries>(rows + r * stride, stride, dim, queries, query_stride, out + r, out_stride);
  }
}

void matmul_f32(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* queries,
                std::size_t query_count, std::size_t query_stride, float* out, std::size_t out_stride) noexcept {
  std::size_t q = 0;
  for (; q + 3 <= query_count; q += 3) {
    matmul_queries<4, 3>(rows, count, stride, dim, queries + q * query_stride, query_stride, out + q * out_stride,
                         out_stride);
  }
  // Alone a query waits for memory, and memory gives most to one stream: row after row.
  for (; q < query_count; ++q) {
    matmul_queries<1, 1>(rows, count, stride, dim, queries + q * query_stride, query_stride, out + q * out_stride,
                         out_stride);
  }
}

void range_f32(const float* x, std::size_t n, float* low, float* high) noexcept {
  __m256 low_f32x8 = _mm256_set1_ps(x[0]);
  __m256 high_f32x8 = low_f32x8;
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x_f32x8 = _mm256_loadu_ps(x + i);
    low_f32x8 = _mm256_min_ps(x_f32x8, low_f32x8);
    high_f32x8 = _mm256_max_ps(x_f32x8, high_f32x8);
  }
  alignas(32) float lows[8];
  alignas(32) float highs[8];
  _mm256_store_ps(lows, low_f32x8);
  _mm256_store_ps(highs, high_f32x8);
  *low = lows[0];
  *high = highs[0];
  for (std::size_t lane = 1; lane < 8; ++lane) {
    *low = lows[lane] < *low ? lows[lane] : *low;
    *high = highs[lane] > *high ? highs[lane] : *high;
  }
  for (; i < n; ++i) {
    *low = x[i] < *low ? x[i] : *low;
    *high = x[i] > *high ? x[i] : *high;
  }
}

// 2^x: a Taylor polynomial on [-1/2, 1/2], and the whole part added to the exponent's bits.
__m256d exp2_f64x4(__m256d x_f64x4) noexcept {
  x_f64x4 = _mm256_max_pd(_mm256_set1_pd(-1000.0), x_f64x4);  // this order keeps NaN
  const __m256d whole_f64x4 = _mm256_round_pd(x_f64x4, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256d part_f64x4 = _mm256_sub_pd(x_f64x4, whole_f64x4);
  __m256d power_f64x4 = _mm256_set1_pd(kExp2Taylor[11]);
  for (std::size_t k = 11; k-- > 0;) {
    power_f64x4 = _mm256_fmadd_pd(power_f64x4, part_f64x4, _mm256_set1_pd(kExp2Taylor[k]));
  }
  const __m256i whole_i64x4 = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(whole_f64x4));
  return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(power_f64x4), _mm256_slli_epi64(whole_i64x4, 52)));
}

double reduce_f64x4(__m256d v_f64x4) noexcept {
  const __m128d pair_f64x2 = _mm_add_pd(_mm256_castpd256_pd128(v_f64x4), _mm256_extractf128_pd(v_f64x4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair_f64x2, _mm_unpackhi_pd(pair_f64x2, pair_f64x2)));
}

__m256d load_f64x4(const float* x) noexcept { return _mm256_cvtps_pd(_mm_loadu_ps(x)); }
__m256d load_f64x4(const double* x) noexcept { return _mm256_loadu_pd(x); }

template <typename T>
double sum_exp2(const T* x, std::size_t n, double scale, double shift, double* powers) noexcept {
  const __m256d scale_f64x4 = _mm256_set1_pd(scale);
  const __m256d shift_f64x4 = _mm256_set1_pd(shift);
  __m256d sum0_f64x4 = _mm256_setzero_pd();
  __m256d sum1_f64x4 = _mm256_setzero_pd();
  double tail = 0.0;
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256d power0_f64x4 = exp2_f64x4(_mm256_fmsub_pd(scale_f64x4, load_f64x4(x + i), shift_f64x4));
    const __m256d power1_f64x4 = exp2_f64x4(_mm256_fmsub_pd(scale_f64x4, load_f64x4(x + i + 4), shift_f64x4));
    sum0_f64x4 = _mm256_add_pd(sum0_f64x4, power0_f64x4);
    sum1_f64x4 = _mm256_add_pd(sum1_f64x4, power1_f64x4);
    if (powers != nullptr) {
      _mm256_storeu_pd(powers + i, power0_f64x4);
      _mm256_storeu_pd(powers + i + 4, power1_f64x4);
    }
  }
  for (; i < n; ++i) {
    const __m256d x_f64x4 = _mm256_set1_pd(static_cast<double>(x[i]));
    const double power = _mm256_cvtsd_f64(exp2_f64x4(_mm256_fmsub_pd(scale_f64x4, x_f64x4, shift_f64x4)));
    if (powers != nullptr) powers[i] = power;
    tail += power;
  }
  return reduce_f64x4(_mm256_add_pd(sum0_f64x4, sum1_f64x4)) + tail;
}

void matvec_wide(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                 double* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) {
    const float* row = rows + r * stride;
    __m256d sum_f64x4[4];
    for (__m256d& sum : sum_f64x4) sum = _mm256_setzero_pd();
    std::size_t d = 0;
    for (; d + 16 <= dim; d += 16) {
      for (std::size_t lane = 0; lane < 4; ++lane) {
        const std::size_t at = d + 4 * lane;
        sum_f64x4[lane] = _mm256_fmadd_pd(load_f64x4(row + at), load_f64x4(x + at), sum_f64x4[lane]);
      }
    }
    double sum = reduce_f64x4(
        _mm256_add_pd(_mm256_add_pd(sum_f64x4[0], sum_f64x4[1]), _mm256_add_pd(sum_f64x4[2], sum_f64x4[3])));
    for (; d < dim; ++d) sum += static_cast<double>(row[d]) * static_cast<double>(x[d]);
    out[r] = sum;
  }
}

__m256 exp2_f32x8(__m256 x_f32x8) noexcept {
  x_f32x8 = _mm256_max_ps(_mm256_set1_ps(-100.0F), x_f32x8);  // this order keeps NaN
  const __m256 whole_f32x8 = _mm256_round_ps(x_f32x8, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 part_f32x8 = _mm256_sub_ps(x_f32x8, whole_f32x8);
  __m256 power_f32x8 = _mm256_set1_ps(static_cast<float>(kExp2Taylor[7]));
  for (std::size_t k = 7; k-- > 0;) {
    power_f32x8 = _mm256_fmadd_ps(power_f32x8, part_f32x8, _mm256_set1_ps(static_cast<float>(kExp2Taylor[k])));
  }
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(power_f32x8), _mm256_slli_epi32(_mm256_cvtps_epi32(whole_f32x8), 23)));
}

double sum_exp2_f32(const float* x, std::size_t n, float scale, float shift) noexcept {
  const __m256 scale_f32x8 = _mm256_set1_ps(scale);
  const __m256 shift_f32x8 = _mm256_set1_ps(shift);
  __m256d sum0_f64x4 = _mm256_setzero_pd();
  __m256d sum1_f64x4 = _mm256_setzero_pd();
  double tail = 0.0;
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 power_f32x8 = exp2_f32x8(_mm256_fmsub_ps(scale_f32x8, _mm256_loadu_ps(x + i), shift_f32x8));
    sum0_f64x4 = _mm256_add_pd(sum0_f64x4, _mm256_cvtps_pd(_mm256_castps256_ps128(power_f32x8)));
    sum1_f64x4 = _mm256_add_pd(sum1_f64x4, _mm256_cvtps_pd(_mm256_extractf128_ps(power_f32x8, 1)));
  }
  for (; i < n; ++i) {
    const __m256 x_f32x8 = _mm256_set1_ps(x[i]);
    tail += static_cast<double>(_mm256_cvtss_f32(exp2_f32x8(_mm256_fmsub_ps(scale_f32x8, x_f32x8, shift_f32x8))));
  }
  return reduce_f64x4(_mm256_add_pd(sum0_f64x4, sum1_f64x4)) + tail;
}

std::size_t find_at_least_f32(const float* x, std::size_t n, float threshold, std::uint32_t* indices,
                              std::size_t capacity) noexcept {
  const __m256 threshold_f32x8 = _mm256_set1_ps(threshold);
  std::size_t found = 0;
  std::size_t i = 0;
  const auto add = [&](std::size_t index) {
    if (found < capacity) indices[found] = static_cast<std::uint32_t>(index);
    ++found;
  };
  for (; i + 8 <= n; i += 8) {
    auto hits =
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), threshold_f32x8, _CMP_GE_OQ)));
    for (; hits != 0; hits &= hits - 1) add(i + static_cast<std::size_t>(__builtin_ctz(hits)));
  }
  for (; i < n; ++i) {
    if (x[i] >= threshold) add(i);
  }
  return found;
}

// Bytes widen to int16, so that no product saturates. Four vectors of four rows each, two sums a row.
void score_panels_u8(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                     const CodedQueries& queries, float* out, std::size_t out_stride) noexcept {
  for (std::size_t p = 0; p < panel_count; ++p) {
    const std::uint8_t* panel = panels + p * kPanelRows * dim;
    for (std::size_t q = 0; q < queries.count; ++q) {
      const std::int16_t* query = queries.whole + q * dim;
      __m256i sum_i32x8[4];
      for (__m256i& sum : sum_i32x8) sum = _mm256_setzero_si256();
      for (std::size_t d = 0; d < dim; d += 4) {
        std::int64_t four = 0;
        __builtin_memcpy(&four, query + d, sizeof(four));
        const __m256i query_i16x16 = _mm256_set1_epi64x(four);
        for (std::size_t k = 0; k < 4; ++k) {
          const auto* codes = reinterpret_cast<const __m128i*>(panel + kPanelRows * d + 16 * k);
          const __m256i codes_i16x16 = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes));
          sum_i32x8[k] = _mm256_add_epi32(sum_i32x8[k], _mm256_madd_epi16(codes_i16x16, query_i16x16));
        }
      }
      const __m128i bias_i32x4 = _mm_set1_epi32(queries.bias[q]);
      const __m128 step_f32x4 = _mm_set1_ps(queries.step[q]);
      const __m128 offset_f32x4 = _mm_set1_ps(queries.offset[q]);
      for (std::size_t k = 0; k < 4; ++k) {
        const __m128i low_i32x4 = _mm256_castsi256_si128(sum_i32x8[k]);
        const __m128i high_i32x4 = _mm256_extracti128_si256(sum_i32x8[k], 1);
        const __m128i dot_i32x4 = _mm_sub_epi32(_mm_hadd_epi32(low_i32x4, high_i32x4), bias_i32x4);
        const std::size_t row = p * kPanelRows + 4 * k;
        const __m128 unit_f32x4 = _mm_mul_ps(_mm_loadu_ps(scales + row), step_f32x4);
        _mm_storeu_ps(out + q * out_stride + row, _mm_fmadd_ps(unit_f32x4, _mm_cvtepi32_ps(dot_i32x4), offset_f32x4));
      }
    }
  }
}

}  // namespace

constinit const KernelTable kKernelsAvx2 = {.dot_f32 = dot_f32,
                                            .matvec_f32 = matvec_f32,
                                            .matvec_wide = matvec_wide,
                                            .dot_i8 = dot_i8,
                                            .sum_rows_i8 = sum_rows_i8,
                                            .sum_rows_f32 = sum_rows_f32,
                                            .first_nonfinite_f32 = first_nonfinite_f32,
                                            .matmul_f32 = matmul_f32,
                                            .range_f32 = range_f32,
                                            .sum_exp2_f64 = sum_exp2<float>,
                                            .sum_exp2_wide = sum_exp2<double>,
                                            .sum_exp2_f32 = sum_exp2_f32,
                                            .find_at_least_f32 = find_at_least_f32,
                                            .score_panels_u8 = score_panels_u8};

}  // namespace routellm_fast
