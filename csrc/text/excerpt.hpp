#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace routellm_fast {

/// How many code points of a text are read: all of a text of at most `whole`; of a longer one the first whole - tail
/// and the last `tail`, which is less than whole and may be 0.
struct ReadLimits {
  std::size_t whole = 0;
  std::size_t tail = 0;

  [[nodiscard]] std::size_t head() const noexcept { return whole - tail; }
};

/// What is read of a text: all of it, or its start, or its two ends. The parts are views of memory that another owns.
struct Excerpt {
  std::string_view head;
  std::string_view tail;  // the end, where it is read apart from the start
  // Of the whole text, in UTF-8. Where its end is not read, any number above that of the start says that there is more.
  std::size_t bytes = 0;

  /// The whole of a text.
  [[nodiscard]] static Excerpt of(std::string_view text) noexcept { return {text, {}, text.size()}; }
};

/// What is read of a text of any bytes, as valid UTF-8: parts of the text itself where they are valid, else in
/// `scratch`, as valid_utf8 reads them.
[[nodiscard]] Excerpt read_of(std::string_view text, const ReadLimits& limits, std::string& scratch);

}  // namespace routellm_fast
