#include "text/bert_normalizer.hpp"

#include <algorithm>

namespace routellm_fast {

std::span<const char32_t> BertNormalizer::decompose(char32_t c, char32_t (&hangul)[kMaxHangulParts]) noexcept {
  const std::span<const char32_t> tabulated = unicode::decomposition(c);
  if (!tabulated.empty()) return tabulated;
  constexpr char32_t kFirstSyllable = 0xAC00;
  constexpr char32_t kFirstLead = 0x1100;
  constexpr char32_t kFirstVowel = 0x1161;
  constexpr char32_t kBeforeFirstTail = 0x11A7;
  constexpr char32_t kVowels = 21;
  constexpr char32_t kTails = 28;  // with "no tail"
  const char32_t index = c - kFirstSyllable;
  hangul[0] = kFirstLead + index / (kVowels * kTails);
  hangul[1] = kFirstVowel + index / kTails % kVowels;
  hangul[2] = kBeforeFirstTail + index % kTails;
  return {hangul, index % kTails == 0 ? 2U : 3U};
}

void BertNormalizer::sort_held() {
  std::ranges::stable_sort(held_, {}, [](char32_t c) { return unicode::facts(c).combining_class; });
}

}  // namespace routellm_fast
