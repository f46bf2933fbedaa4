#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace routellm_fast {

/// The start of a text as valid UTF-8, and whether it is all of the text.
struct ValidText {
  std::string_view text;
  bool is_all = false;
};

/// The first `limit` code points of a text: a part of the text itself where they are valid UTF-8, else in `scratch`,
/// with U+FFFD for every maximal subpart of an ill-formed sequence, as Python's bytes.decode("utf-8", "replace") reads
/// it.
[[nodiscard]] ValidText valid_utf8(std::string_view text, std::size_t limit, std::string& scratch);

/// Text from a file in a form for error messages: at most 200 code points of valid UTF-8, with question marks instead
/// of control characters.
[[nodiscard]] std::string shown(std::string_view text);

}  // namespace routellm_fast
