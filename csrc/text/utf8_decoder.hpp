#pragma once

#include <cstddef>

namespace routellm_fast {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

/// Reads one code point at `p` < `end` and moves `p` behind it. Of an ill-formed sequence it reads the maximal subpart
/// (Unicode 3.9, D93b): the longest start of a well-formed sequence, or else one byte.
[[nodiscard]] inline char32_t decode_utf8(const char*& p, const char* end) noexcept {
  const auto byte_at = [p](std::size_t i) { return static_cast<unsigned char>(p[i]); };
  const unsigned char lead = byte_at(0);
  if (lead < 0x80) {
    ++p;
    return lead;
  }
  std::size_t length = 0;
  unsigned char low = 0x80;  // the second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF
  unsigned char high = 0xBF;
  char32_t code_point = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code_point = lead & 0x1FU;
  } else if ((lead & 0xF0U) == 0xE0) {
    length = 3;
    code_point = lead & 0x0FU;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code_point = lead & 0x07U;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    ++p;
    return kReplacementCharacter;
  }
  const auto available = static_cast<std::size_t>(end - p);
  for (std::size_t i = 1; i < length; ++i) {
    if (i == available || byte_at(i) < low || byte_at(i) > high) {
      p += i;
      return kReplacementCharacter;
    }
    code_point = code_point << 6U | (byte_at(i) & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  p += length;
  return code_point;
}

/// Calls byte(unsigned char) for the UTF-8 form of a code point.
template <class Byte>
void encode_utf8(char32_t c, Byte&& byte) {
  const auto continuation = [](char32_t bits) { return static_cast<unsigned char>(0x80U | (bits & 0x3FU)); };
  if (c < 0x80) {
    byte(static_cast<unsigned char>(c));
    return;
  }
  if (c < 0x800) {
    byte(static_cast<unsigned char>(0xC0U | c >> 6U));
  } else {
    if (c < 0x10000) {
      byte(static_cast<unsigned char>(0xE0U | c >> 12U));
    } else {
      byte(static_cast<unsigned char>(0xF0U | c >> 18U));
      byte(continuation(c >> 12U));
    }
    byte(continuation(c >> 6U));
  }
  byte(continuation(c));
}

}  // namespace routellm_fast
