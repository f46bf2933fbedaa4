#include <immintrin.h>

#include "kernels/kernel_abi.hpp"

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

// kRows rows by kQueries queries, one chain each: with eight by three, eleven loads feed twenty-four multiply-adds, and
// three queries of usual length stay in the nearest cache while rows pass by.
template <std::size_t kRows, std::size_t kQueries>
void matmul_tile(const float* rows, std::size_t stride, std::size_t dim, const float* queries, std::size_t query_stride,
                 float* out, std::size_t out_stride) noexcept {
  __m512 sum_f32x16[kRows][kQueries];
  ROUTELLM_FAST_UNROLL
  for (auto& row : sum_f32x16) {
    ROUTELLM_FAST_UNROLL
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  for (std::size_t i = 0; i < dim; i += 16) {
    const __mmask16 mask = dim - i < 16 ? first_lanes16(dim - i) : static_cast<__mmask16>(0xFFFF);
    __m512 query_f32x16[kQueries];
    ROUTELLM_FAST_UNROLL
    for (std::size_t q = 0; q < kQueries; ++q) {
      query_f32x16[q] = _mm512_maskz_loadu_ps(mask, queries + q * query_stride + i);
    }
    ROUTELLM_FAST_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m512 row_f32x16 = _mm512_maskz_loadu_ps(mask, rows + r * stride + i);
      ROUTELLM_FAST_UNROLL
      for (std::size_t q = 0; q < kQueries; ++q) {
        sum_f32x16[r][q] = _mm512_fmadd_ps(row_f32x16, query_f32x16[q], sum_f32x16[r][q]);
      }
    }
  }
  ROUTELLM_FAST_UNROLL
  for (std::size_t q = 0; q < kQueries; ++q) {
    ROUTELLM_FAST_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) out[q * out_stride + r] = reduce_f32x16(sum_f32x16[r][q]);
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
    matmul_queries<8, 3>(rows, count, stride, dim, queries + q * query_stride, query_stride, out + q * out_stride,
                         out_stride);
  }
  // Alone a query waits for memory, and memory gives most to one stream: row after row.
  for (; q < query_count; ++q) {
    matmul_queries<1, 1>(rows, count, stride, dim, queries + q * query_stride, query_stride, out + q * out_stride,
                         out_stride);
  }
}

void range_f32(const float* x, std::size_t n, float* low, float* high) noexcept {
  __m512 low_f32x16 = _mm512_set1_ps(x[0]);
  __m512 high_f32x16 = low_f32x16;
  for (std::size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i < 16 ? first_lanes16(n - i) : static_cast<__mmask16>(0xFFFF);
    const __m512 x_f32x16 = _mm512_mask_loadu_ps(low_f32x16, mask, x + i);
    low_f32x16 = _mm512_min_ps(x_f32x16, low_f32x16);
    high_f32x16 = _mm512_mask_max_ps(high_f32x16, mask, x_f32x16, high_f32x16);
  }
  *low = _mm512_reduce_min_ps(low_f32x16);
  *high = _mm512_reduce_max_ps(high_f32x16);
}

// 2^x: a Taylor polynomial on [-1/2, 1/2], scaled by the whole part.
__m512d exp2_f64x8(__m512d x_f64x8) noexcept {
  x_f64x8 = _mm512_max_pd(_mm512_set1_pd(-1000.0), x_f64x8);  // this order keeps NaN
  const __m512d whole_f64x8 = _mm512_roundscale_pd(x_f64x8, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512d part_f64x8 = _mm512_sub_pd(x_f64x8, whole_f64x8);
  __m512d power_f64x8 = _mm512_set1_pd(kExp2Taylor[11]);
  for (std::size_t k = 11; k-- > 0;) {
    power_f64x8 = _mm512_fmadd_pd(power_f64x8, part_f64x8, _mm512_set1_pd(kExp2Taylor[k]));
  }
  return _mm512_scalef_pd(power_f64x8, whole_f64x8);
}

__mmask8 first_lanes8(std::size_t n) noexcept { return static_cast<__mmask8>((1U << n) - 1U); }

double reduce_f64x8(__m512d v_f64x8) noexcept {
  const __m256d half_f64x4 = _mm256_add_pd(_mm512_castpd512_pd256(v_f64x8), _mm512_extractf64x4_pd(v_f64x8, 1));
  const __m128d pair_f64x2 = _mm_add_pd(_mm256_castpd256_pd128(half_f64x4), _mm256_extractf128_pd(half_f64x4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair_f64x2, _mm_unpackhi_pd(pair_f64x2, pair_f64x2)));
}

__m512d load_f64x8(const float* x, __mmask8 mask) noexcept { return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, x)); }
__m512d load_f64x8(const double* x, __mmask8 mask) noexcept { return _mm512_maskz_loadu_pd(mask, x); }

template <typename T>
double sum_exp2(const T* x, std::size_t n, double scale, double shift, double* powers) noexcept {
  const __m512d scale_f64x8 = _mm512_set1_pd(scale);
  const __m512d shift_f64x8 = _mm512_set1_pd(shift);
  __m512d sum0_f64x8 = _mm512_setzero_pd();
  __m512d sum1_f64x8 = _mm512_setzero_pd();
  for (std::size_t i = 0; i < n; i += 16) {
    const std::size_t left = n - i;
    const __mmask8 mask0 = left < 8 ? first_lanes8(left) : static_cast<__mmask8>(0xFF);
    const __mmask8 mask1 = left >= 16 ? static_cast<__mmask8>(0xFF) : first_lanes8(left > 8 ? left - 8 : 0);
    const __m512d x0_f64x8 = load_f64x8(x + i, mask0);
    const __m512d x1_f64x8 = load_f64x8(x + i + 8, mask1);
    const __m512d power0_f64x8 = exp2_f64x8(_mm512_fmsub_pd(scale_f64x8, x0_f64x8, shift_f64x8));
    const __m512d power1_f64x8 = exp2_f64x8(_mm512_fmsub_pd(scale_f64x8, x1_f64x8, shift_f64x8));
    sum0_f64x8 = _mm512_mask_add_pd(sum0_f64x8, mask0, sum0_f64x8, power0_f64x8);
    sum1_f64x8 = _mm512_mask_add_pd(sum1_f64x8, mask1, sum1_f64x8, power1_f64x8);
    if (powers != nullptr) {
      _mm512_mask_storeu_pd(powers + i, mask0, power0_f64x8);
      _mm512_mask_storeu_pd(powers + i + 8, mask1, power1_f64x8);
    }
  }
  return reduce_f64x8(_mm512_add_pd(sum0_f64x8, sum1_f64x8));
}

void matvec_wide(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                 double* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) {
    const float* row = rows + r * stride;
    __m512d sum_f64x8[4];
    for (__m512d& sum : sum_f64x8) sum = _mm512_setzero_pd();
    std::size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
      for (std::size_t lane = 0; lane < 4; ++lane) {
        const std::size_t at = d + 8 * lane;
        sum_f64x8[lane] = _mm512_fmadd_pd(load_f64x8(row + at, 0xFF), load_f64x8(x + at, 0xFF), sum_f64x8[lane]);
      }
    }
    for (; d < dim; d += 8) {
      const __mmask8 mask = dim - d < 8 ? first_lanes8(dim - d) : static_cast<__mmask8>(0xFF);
      sum_f64x8[0] = _mm512_fmadd_pd(load_f64x8(row + d, mask), load_f64x8(x + d, mask), sum_f64x8[0]);
    }
    out[r] = reduce_f64x8(
        _mm512_add_pd(_mm512_add_pd(sum_f64x8[0], sum_f64x8[1]), _mm512_add_pd(sum_f64x8[2], sum_f64x8[3])));
  }
}

__m512 exp2_f32x16(__m512 x_f32x16) noexcept {
  x_f32x16 = _mm512_max_ps(_mm512_set1_ps(-100.0F), x_f32x16);  // this order keeps NaN
  const __m512 whole_f32x16 = _mm512_roundscale_ps(x_f32x16, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part_f32x16 = _mm512_sub_ps(x_f32x16, whole_f32x16);
  __m512 power_f32x16 = _mm512_set1_ps(static_cast<float>(kExp2Taylor[7]));
  for (std::size_t k = 7; k-- > 0;) {
    power_f32x16 = _mm512_fmadd_ps(power_f32x16, part_f32x16, _mm512_set1_ps(static_cast<float>(kExp2Taylor[k])));
  }
  return _mm512_scalef_ps(power_f32x16, whole_f32x16);
}

double sum_exp2_f32(const float* x, std::size_t n, float scale, float shift) noexcept {
  const __m512 scale_f32x16 = _mm512_set1_ps(scale);
  const __m512 shift_f32x16 = _mm512_set1_ps(shift);
  __m512d sum0_f64x8 = _mm512_setzero_pd();
  __m512d sum1_f64x8 = _mm512_setzero_pd();
  for (std::size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i < 16 ? first_lanes16(n - i) : static_cast<__mmask16>(0xFFFF);
    const __m512 x_f32x16 = _mm512_maskz_loadu_ps(mask, x + i);
    const __m512 power_f32x16 =
        _mm512_maskz_mov_ps(mask, exp2_f32x16(_mm512_fmsub_ps(scale_f32x16, x_f32x16, shift_f32x16)));
    sum0_f64x8 = _mm512_add_pd(sum0_f64x8, _mm512_cvtps_pd(_mm512_castps512_ps256(power_f32x16)));
    sum1_f64x8 = _mm512_add_pd(sum1_f64x8, _mm512_cvtps_pd(_mm512_extractf32x8_ps(power_f32x16, 1)));
  }
  return reduce_f64x8(_mm512_add_pd(sum0_f64x8, sum1_f64x8));
}

std::size_t find_at_least_f32(const float* x, std::size_t n, float threshold, std::uint32_t* indices,
                              std::size_t capacity) noexcept {
  const __m512 threshold_f32x16 = _mm512_set1_ps(threshold);
  std::size_t found = 0;
  for (std::size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i < 16 ? first_lanes16(n - i) : static_cast<__mmask16>(0xFFFF);
    unsigned hits = _mm512_mask_cmp_ps_mask(mask, _mm512_maskz_loadu_ps(mask, x + i), threshold_f32x16, _CMP_GE_OQ);
    for (; hits != 0; hits &= hits - 1) {
      if (found < capacity)
        indices[found] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(hits));
      ++found;
    }
  }
  return found;
}

// Bytes widen to int16, so that no product saturates. Two vectors of eight rows each, two sums a row.
void score_panels_u8(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                     const CodedQueries& queries, float* out, std::size_t out_stride) noexcept {
  const __m512i even_i32x16 = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd_i32x16 = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  for (std::size_t p = 0; p < panel_count; ++p) {
    const std::uint8_t* panel = panels + p * kPanelRows * dim;
    for (std::size_t q = 0; q < queries.count; ++q) {
      const std::int16_t* query = queries.whole + q * dim;
      __m512i sum0_i32x16 = _mm512_setzero_si512();
      __m512i sum1_i32x16 = _mm512_setzero_si512();
      for (std::size_t d = 0; d < dim; d += 4) {
        std::int64_t four = 0;
        __builtin_memcpy(&four, query + d, sizeof(four));
        const __m512i query_i16x32 = _mm512_set1_epi64(four);
        const __m512i codes_u8x64 = _mm512_loadu_si512(panel + kPanelRows * d);
        const __m512i codes0_i16x32 = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(codes_u8x64));
        const __m512i codes1_i16x32 = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(codes_u8x64, 1));
        sum0_i32x16 = _mm512_add_epi32(sum0_i32x16, _mm512_madd_epi16(codes0_i16x32, query_i16x32));
        sum1_i32x16 = _mm512_add_epi32(sum1_i32x16, _mm512_madd_epi16(codes1_i16x32, query_i16x32));
      }
      const __m512i sum_i32x16 = _mm512_add_epi32(_mm512_permutex2var_epi32(sum0_i32x16, even_i32x16, sum1_i32x16),
                                                  _mm512_permutex2var_epi32(sum0_i32x16, odd_i32x16, sum1_i32x16));
      const __m512 dot_f32x16 = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum_i32x16, _mm512_set1_epi32(queries.bias[q])));
      const std::size_t row = p * kPanelRows;
      const __m512 unit_f32x16 = _mm512_mul_ps(_mm512_loadu_ps(scales + row), _mm512_set1_ps(queries.step[q]));
      _mm512_storeu_ps(out + q * out_stride + row,
                       _mm512_fmadd_ps(unit_f32x16, dot_f32x16, _mm512_set1_ps(queries.offset[q])));
    }
  }
}

}  // namespace

constinit const KernelTable kKernelsAvx512 = {.dot_f32 = dot_f32,
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
