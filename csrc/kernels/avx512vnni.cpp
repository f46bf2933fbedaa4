#include <immintrin.h>

#include "kernel_abi.hpp"

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

// kPanels panels by kQueries queries from `first` on, each query in two halves: the codes are unsigned, as VPDPBUSD wants
// them, and every load serves kQueries or kPanels products.
template <std::size_t kPanels, std::size_t kQueries>
void score_tile(const std::uint8_t* panels, std::size_t dim, const float* scales, const CodedQueries& queries,
                std::size_t first, float* out, std::size_t out_stride) noexcept {
  __m512i high_i32x16[kPanels][kQueries];
  __m512i low_i32x16[kPanels][kQueries];
  for (std::size_t p = 0; p < kPanels; ++p) {
    for (std::size_t q = 0; q < kQueries; ++q) {
      high_i32x16[p][q] = _mm512_setzero_si512();
      low_i32x16[p][q] = _mm512_setzero_si512();
    }
  }
  const std::size_t panel_bytes = kPanelRows * dim;
  const std::int8_t* const high = queries.high + first * dim;
  const std::int8_t* const low = queries.low + first * dim;
  for (std::size_t d = 0; d < dim; d += 4) {
    __m512i codes_u8x64[kPanels];
    for (std::size_t p = 0; p < kPanels; ++p) {
      codes_u8x64[p] = _mm512_loadu_si512(panels + p * panel_bytes + kPanelRows * d);
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
      const __m512i query_high_i8x64 = four_bytes(high + q * dim + d);
      const __m512i query_low_i8x64 = four_bytes(low + q * dim + d);
      for (std::size_t p = 0; p < kPanels; ++p) {
        high_i32x16[p][q] = _mm512_dpbusd_epi32(high_i32x16[p][q], codes_u8x64[p], query_high_i8x64);
        low_i32x16[p][q] = _mm512_dpbusd_epi32(low_i32x16[p][q], codes_u8x64[p], query_low_i8x64);
      }
    }
  }
  for (std::size_t q = 0; q < kQueries; ++q) {
    const __m512i bias_i32x16 = _mm512_set1_epi32(queries.bias[first + q]);
    const __m512 step_f32x16 = _mm512_set1_ps(queries.step[first + q]);
    const __m512 offset_f32x16 = _mm512_set1_ps(queries.offset[first + q]);
    for (std::size_t p = 0; p < kPanels; ++p) {
      const __m512i sum_i32x16 = _mm512_add_epi32(_mm512_slli_epi32(high_i32x16[p][q], 7), low_i32x16[p][q]);
      const __m512 dot_f32x16 = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum_i32x16, bias_i32x16));
      const __m512 unit_f32x16 = _mm512_mul_ps(_mm512_loadu_ps(scales + p * kPanelRows), step_f32x16);
      _mm512_storeu_ps(out + (first + q) * out_stride + p * kPanelRows,
                       _mm512_fmadd_ps(unit_f32x16, dot_f32x16, offset_f32x16));
    }
  }
}

template <std::size_t kQueries>
void score_queries(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                   const CodedQueries& queries, std::size_t first, float* out, std::size_t out_stride) noexcept {
  std::size_t p = 0;
  for (; p + 4 <= panel_count; p += 4) {
    const std::size_t row = p * kPanelRows;
    score_tile<4, kQueries>(panels + row * dim, dim, scales + row, queries, first, out + row, out_stride);
  }
  for (; p < panel_count; ++p) {
    const std::size_t row = p * kPanelRows;
    score_tile<1, kQueries>(panels + row * dim, dim, scales + row, queries, first, out + row, out_stride);
  }
}

void score_panels_u8(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                     const CodedQueries& queries, float* out, std::size_t out_stride) noexcept {
  std::size_t q = 0;
  for (; q + 2 <= queries.count; q += 2) {
    score_queries<2>(panels, panel_count, dim, scales, queries, q, out, out_stride);
  }
  if (q < queries.count) score_queries<1>(panels, panel_count, dim, scales, queries, q, out, out_stride);
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
