#pragma once

#include <cstddef>
#include <string_view>

namespace routellm_fast {

/// The first `limit` code points of a text, in at most 4 * limit bytes (a limit that only invalid text meets). A byte
/// that starts no code point counts as one, except a continuation byte, which counts with the bytes before it.
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

/// The last `limit` code points of a text, in at most 4 * limit bytes. Begins where a code point does, unless the text
/// is invalid there.
[[nodiscard]] inline std::string_view last_code_points(std::string_view utf8, std::size_t limit) noexcept {
  if (utf8.size() <= limit) return utf8;
  const std::size_t most = utf8.size() <= 4 * limit ? utf8.size() : 4 * limit;
  std::size_t length = 0;
  for (std::size_t count = 0; count < limit && length < most;) {
    ++length;
    const bool continuation = (static_cast<unsigned char>(utf8[utf8.size() - length]) & 0xC0U) == 0x80U;
    if (!continuation) ++count;
  }
  return utf8.substr(utf8.size() - length);
}

}  // namespace routellm_fast
