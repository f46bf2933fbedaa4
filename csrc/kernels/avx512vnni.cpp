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

}  // namespace

constinit const KernelTable kKernelsAvx512Vnni = {.dot_f32 = nullptr,
                                                  .matvec_f32 = nullptr,
                                                  .dot_i8 = dot_i8,
                                                  .sum_rows_i8 = nullptr,
                                                  .sum_rows_f32 = nullptr,
                                                  .first_nonfinite_f32 = nullptr};

}  // namespace routellm_fast
