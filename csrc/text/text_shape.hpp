#pragma once

#include <cstddef>
#include <string_view>

#include "text/excerpt.hpp"

namespace routellm_fast {

/// What kind of request a text is, as far as its words and lines show it. A word is a run of bytes without blanks; a
/// blank is a space or one of the controls from tab to carriage return. A letter is an ASCII letter or any character
/// beyond ASCII.
struct TextShape {
  std::size_t blanks = 0;
  std::size_t words = 0;
  std::size_t long_words = 0;      // runs of ten letters or more
  std::size_t personal_words = 0;  // I, me, my, we, us, our, you, your, please
  std::size_t numbers = 0;         // runs of ASCII digits; one point or comma between two digits does not end a number
  std::size_t sentence_ends = 0;   // . ! ? before a blank or the end
  std::size_t options = 0;         // lines that begin like "A.", "(b)", "3)" or "[D]" before a blank or the end
  std::size_t stem_words = 0;      // words before the first option; all words where there are no options
  bool has_underscore = false;
  bool starts_with_imperative = false;     // such as "Write"; what counts is the first run of letters
  bool starts_with_question_word = false;  // such as "Which"
  bool ends_with_question_mark = false;    // blanks at the end aside
  bool ends_with_colon = false;

  bool operator==(const TextShape&) const = default;
};

/// The shape of what was read of a text: of both parts as if one followed the other. One pass; allocates nothing.
[[nodiscard]] TextShape shape_of(const Excerpt& read) noexcept;

}  // namespace routellm_fast
