// SHA-256 by the processor's own instructions (SHA-NI).
#include <immintrin.h>

#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

__m128i load(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

}  // namespace

void sha256_blocks_shani(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  const __m128i big_endian = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
  // The instructions want the words as a, b, e, f and c, d, g, h, highest first.
  const __m128i dcba = _mm_shuffle_epi32(load(state), 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(load(state + 4), 0x1B);
  __m128i abef = _mm_alignr_epi8(dcba, hgfe, 8);
  __m128i cdgh = _mm_blend_epi16(hgfe, dcba, 0xF0);
  for (; count > 0; --count, blocks += 64) {
    const __m128i abef_before = abef;
    const __m128i cdgh_before = cdgh;
    __m128i w[4];  // the last sixteen words of the message, four a register
    ROUTELLM_FAST_UNROLL
    for (std::size_t k = 0; k < 4; ++k) w[k] = _mm_shuffle_epi8(load(blocks + 16 * k), big_endian);
    ROUTELLM_FAST_UNROLL
    for (std::size_t k = 0; k < 16; ++k) {
      __m128i& words = w[k % 4];
      const __m128i sum = _mm_add_epi32(words, load(kSha256Rounds + 4 * k));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      if (k < 12) {  // the words of four groups later take the place of these
        const __m128i& last = w[(k + 3) % 4];
        const __m128i middle = _mm_alignr_epi8(last, w[(k + 2) % 4], 4);
        words = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(words, w[(k + 1) % 4]), middle), last);
      }
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace routellm_fast
