#include <immintrin.h>

#include "kernels/kernel_abi.hpp"

// AVX-512 VNNI: only what gains from VPDPBUSD. All other entries stay null and come from the AVX-512 tier.

namespace routellm_fast {
namespace {

// VPDPBUSD multiplies unsigned by signed bytes, so a is shifted by 128 (a XOR 0x80) and 128 * sum(b), gathered by a
// second VPDPBUSD in the same pass, is taken off again. |128 * b| <= 2^14 a byte: the same int32 range as the product
// itself.
std::int32_t dot_i8(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept {
  const __m512i sign_u8x64 = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sum_i32x16 = _mm512_setzero_si512();
  __m512i shift_i32x16 = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 64) {
    const __mmask64 mask = n - i < 64 ? (1ULL << (n - i)) - 1ULL : ~0ULL;
    const __m512i a_u8x64 = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, a + i), sign_u8x64);
    const __m512i b_i8x64 = _mm512_maskz_loadu_epi8(mask, b + i);
    sum_i32x16 = _mm512_dpbusd_epi32(sum_i32x16, a_u8x64, b_i8x64);
    shift_i32x16 = _mm512_dpbusd_epi32(shift_i32x16, sign_u8x64, b_i8x64);
  }
  return _mm512_reduce_add_epi32(_mm512_sub_epi32(sum_i32x16, shift_i32x16));
}

__m512i four_bytes(const std::int8_t* bytes) noexcept {
  int four = 0;
  __builtin_memcpy(&four, bytes, sizeof(four));
  return _mm512_set1_epi32(four);
}

void store_scores(__m512i sum_i32x16, const float* scales, const CodedQueries& queries, std::size_t q,
                  float* out) noexcept {
  const __m512 dot_f32x16 = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum_i32x16, _mm512_set1_epi32(queries.bias[q])));
  const __m512 unit_f32x16 = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(queries.step[q]));
  _mm512_storeu_ps(out, _mm512_fmadd_ps(unit_f32x16, dot_f32x16, _mm512_set1_ps(queries.offset[q])));
}

// kPanels panels by two queries from `first` on, each in two halves: the codes are unsigned, as VPDPBUSD wants them,
// and every load serves several products.
template <std::size_t kPanels>
void score_pair(const std::uint8_t* panels, std::size_t dim, const float* scales, const CodedQueries& queries,
                std::size_t first, float* out, std::size_t out_stride) noexcept {
  __m512i high_i32x16[kPanels][2];
  __m512i low_i32x16[kPanels][2];
  ROUTELLM_FAST_UNROLL
  for (std::size_t p = 0; p < kPanels; ++p) {
    ROUTELLM_FAST_UNROLL
    for (std::size_t q = 0; q < 2; ++q) {
      high_i32x16[p][q] = _mm512_setzero_si512();
      low_i32x16[p][q] = _mm512_setzero_si512();
    }
  }
  const std::size_t panel_bytes = kPanelRows * dim;
  const std::int8_t* const high = queries.high + first * dim;
  const std::int8_t* const low = queries.low + first * dim;
  for (std::size_t d = 0; d < dim; d += 4) {
    __m512i query_i8x64[2][2];
    ROUTELLM_FAST_UNROLL
    for (std::size_t q = 0; q < 2; ++q) {
      query_i8x64[q][0] = four_bytes(high + q * dim + d);
      query_i8x64[q][1] = four_bytes(low + q * dim + d);
    }
    ROUTELLM_FAST_UNROLL
    for (std::size_t p = 0; p < kPanels; ++p) {
      const __m512i codes_u8x64 = _mm512_loadu_si512(panels + p * panel_bytes + kPanelRows * d);
      ROUTELLM_FAST_UNROLL
      for (std::size_t q = 0; q < 2; ++q) {
        high_i32x16[p][q] = _mm512_dpbusd_epi32(high_i32x16[p][q], codes_u8x64, query_i8x64[q][0]);
        low_i32x16[p][q] = _mm512_dpbusd_epi32(low_i32x16[p][q], codes_u8x64, query_i8x64[q][1]);
      }
    }
  }
  ROUTELLM_FAST_UNROLL
  for (std::size_t p = 0; p < kPanels; ++p) {
    ROUTELLM_FAST_UNROLL
    for (std::size_t q = 0; q < 2; ++q) {
      store_scores(_mm512_add_epi32(_mm512_slli_epi32(high_i32x16[p][q], 7), low_i32x16[p][q]), scales + p * kPanelRows,
                   queries, first + q, out + (first + q) * out_stride + p * kPanelRows);
    }
  }
}

// One query waits for memory, which gives most to a single stream: panel after panel, four chains a panel.
void score_alone(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                 const CodedQueries& queries, std::size_t q, float* out) noexcept {
  const std::int8_t* const high = queries.high + q * dim;
  const std::int8_t* const low = queries.low + q * dim;
  for (std::size_t p = 0; p < panel_count; ++p) {
    const std::uint8_t* const panel = panels + p * kPanelRows * dim;
    __m512i high_i32x16[4];
    __m512i low_i32x16[4];
    ROUTELLM_FAST_UNROLL
    for (std::size_t chain = 0; chain < 4; ++chain) {
      high_i32x16[chain] = _mm512_setzero_si512();
      low_i32x16[chain] = _mm512_setzero_si512();
    }
    std::size_t d = 0;
    for (; d + 16 <= dim; d += 16) {
      ROUTELLM_FAST_UNROLL
      for (std::size_t chain = 0; chain < 4; ++chain) {
        const std::size_t at = d + 4 * chain;
        const __m512i codes_u8x64 = _mm512_loadu_si512(panel + kPanelRows * at);
        high_i32x16[chain] = _mm512_dpbusd_epi32(high_i32x16[chain], codes_u8x64, four_bytes(high + at));
        low_i32x16[chain] = _mm512_dpbusd_epi32(low_i32x16[chain], codes_u8x64, four_bytes(low + at));
      }
    }
    for (; d < dim; d += 4) {
      const __m512i codes_u8x64 = _mm512_loadu_si512(panel + kPanelRows * d);
      high_i32x16[0] = _mm512_dpbusd_epi32(high_i32x16[0], codes_u8x64, four_bytes(high + d));
      low_i32x16[0] = _mm512_dpbusd_epi32(low_i32x16[0], codes_u8x64, four_bytes(low + d));
    }
    const __m512i high_sum_i32x16 = _mm512_add_epi32(_mm512_add_epi32(high_i32x16[0], high_i32x16[1]),
                                                     _mm512_add_epi32(high_i32x16[2], high_i32x16[3]));
    const __m512i low_sum_i32x16 = _mm512_add_epi32(_mm512_add_epi32(low_i32x16[0], low_i32x16[1]),
                                                    _mm512_add_epi32(low_i32x16[2], low_i32x16[3]));
    store_scores(_mm512_add_epi32(_mm512_slli_epi32(high_sum_i32x16, 7), low_sum_i32x16), scales + p * kPanelRows,
                 queries, q, out + p * kPanelRows);
  }
}

void score_panels_u8(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                     const CodedQueries& queries, float* out, std::size_t out_stride) noexcept {
  std::size_t q = 0;
  for (; q + 2 <= queries.count; q += 2) {
    std::size_t p = 0;
    for (; p + 4 <= panel_count; p += 4) {
      const std::size_t row = p * kPanelRows;
      score_pair<4>(panels + row * dim, dim, scales + row, queries, q, out + row, out_stride);
    }
    for (; p < panel_count; ++p) {
      const std::size_t row = p * kPanelRows;
      score_pair<1>(panels + row * dim, dim, scales + row, queries, q, out + row, out_stride);
    }
  }
  if (q < queries.count) score_alone(panels, panel_count, dim, scales, queries, q, out + q * out_stride);
}

}  // namespace

constinit const KernelTable kKernelsAvx512Vnni = {.dot_f32 = nullptr,
                                                  .matvec_f32 = nullptr,
                                                  .matvec_wide = nullptr,
                                                  .dot_i8 = dot_i8,
                                                  .sum_rows_i8 = nullptr,
                                                  .sum_rows_f32 = nullptr,
                                                  .first_nonfinite_f32 = nullptr,
                                                  .matmul_f32 = nullptr,
                                                  .range_f32 = nullptr,
                                                  .sum_exp2_f64 = nullptr,
                                                  .sum_exp2_wide = nullptr,
                                                  .sum_exp2_f32 = nullptr,
                                                  .find_at_least_f32 = nullptr,
                                                  .score_panels_u8 = score_panels_u8};

}  // namespace routellm_fast
