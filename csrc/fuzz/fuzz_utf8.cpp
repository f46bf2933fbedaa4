// Any bytes are a text, which is read as UTF-8 in whole, in part and from both ends; a decoder that is written another
// way says what is right. The first two bytes are limits.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/require.hpp"
#include "support/script.hpp"
#include "text/excerpt.hpp"
#include "text/utf8.hpp"
#include "text/utf8_text.hpp"

namespace {

using routellm_fast::Excerpt;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

struct Sequence {
  unsigned char first_low;
  unsigned char first_high;
  unsigned char second_low;
  unsigned char second_high;
  std::size_t length;
};

// Unicode's table 3-7, row by row.
constexpr Sequence kWellFormed[] = {
    {0x00, 0x7F, 0x00, 0x00, 1}, {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
    {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
    {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}};

// The characters of a text, each as its own UTF-8, with U+FFFD for each maximal subpart that is ill-formed.
std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  while (!text.empty()) {
    std::size_t length = 0;  // of the well-formed part
    std::size_t expected = 1;
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    for (const Sequence& row : kWellFormed) {
      if (byte(0) < row.first_low || byte(0) > row.first_high) continue;
      expected = row.length;
      for (length = 1; length < expected && length < text.size(); ++length) {
        const unsigned char low = length == 1 ? row.second_low : 0x80;
        const unsigned char high = length == 1 ? row.second_high : 0xBF;
        if (byte(length) < low || byte(length) > high) break;
      }
    }
    characters.emplace_back(length == expected ? text.substr(0, length) : "\xEF\xBF\xBD");
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return characters;
}

std::string joined(const std::vector<std::string>& characters, std::size_t begin, std::size_t end) {
  std::string text;
  for (std::size_t k = begin; k < std::min(end, characters.size()); ++k) text += characters[k];
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const std::size_t whole = script.byte();
  const std::size_t tail = script.below(whole + 1);
  const std::string text = script.rest();
  const std::vector<std::string> characters = characters_of(text);
  const std::string all = joined(characters, 0, characters.size());

  std::string scratch;
  const auto valid = routellm_fast::valid_utf8(text, text.size(), scratch);
  require(valid.is_all && valid.text == all, "a text reads as Unicode says");
  if (all == text) require(valid.text.data() == text.data(), "a valid text is not copied");
  const auto start = routellm_fast::valid_utf8(text, whole, scratch);
  require(start.text == joined(characters, 0, whole), "a start of a text has as many characters as were asked for");
  require(start.is_all == (characters.size() <= whole), "it is known whether a start is all");

  const routellm_fast::ReadLimits limits{.whole = whole, .tail = whole == 0 ? 0 : std::min(tail, whole - 1)};
  const Excerpt read = routellm_fast::read_of(text, limits, scratch);
  if (characters.size() <= whole) {
    require(read.head == all && read.tail.empty() && read.bytes == all.size(), "a short text is read whole");
  } else if (limits.tail == 0) {
    require(read.head == joined(characters, 0, whole) && read.tail.empty(), "the start of a long text is read");
  } else {
    require(read.head == joined(characters, 0, limits.head()), "the start of a long text is read");
    require(read.tail == joined(characters, characters.size() - limits.tail, characters.size()),
            "the end of a long text is read");
    require(read.bytes == all.size(), "the length of a long text is known");
  }

  require(routellm_fast::first_code_points(all, whole) == joined(characters, 0, whole), "a valid start is cut off");
  const std::size_t end = characters.size() - std::min(whole, characters.size());
  require(routellm_fast::last_code_points(all, whole) == joined(characters, end, characters.size()),
          "a valid end is cut off");
  const std::string_view first = routellm_fast::first_code_points(text, whole);
  require(first.size() <= std::max(4 * whole, std::min(text.size(), whole)), "of ill-formed text no more is read");
  require(first.data() == text.data() || first.empty(), "a start begins where the text does");
  const std::string_view last = routellm_fast::last_code_points(text, whole);
  require(last.size() <= std::max(4 * whole, std::min(text.size(), whole)), "of ill-formed text no more is read");

  const std::string shown = routellm_fast::shown(text);
  require(characters_of(shown).size() <= 200, "no more than 200 characters of a text are shown");
  for (const char c : shown) require(static_cast<unsigned char>(c) >= 0x20, "no control characters are shown");
  return 0;
}
