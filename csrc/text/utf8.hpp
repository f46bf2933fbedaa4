#pragma once

#include <cstddef>
#include <string_view>

namespace routellm_fast {

/// The first `limit` code points of a text. Bytes that start no code point count as one each, except continuation
/// bytes, which count with what stands before them; at most 4 * limit bytes, which cuts invalid text only.
[[nodiscard]] inline std::string_view first_code_points(std::string_view utf8, std::size_t limit) noexcept {
  if (utf8.size() <= limit) return utf8;  // a code point has at least one byte
  utf8 = utf8.substr(0, 4 * limit);
  std::size_t count = 0;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const bool continuation = (static_cast<unsigned char>(utf8[i]) & 0xC0U) == 0x80U;
    if (continuation && i > 0) continue;
    if (count == limit) return utf8.substr(0, i);
    ++count;
  }
  return utf8;
}

}  // namespace routellm_fast
