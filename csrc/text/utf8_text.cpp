#include "text/utf8_text.hpp"

#include <algorithm>
#include <utility>

#include "text/ascii_swar.hpp"
#include "text/utf8_decoder.hpp"

namespace routellm_fast {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Prefix {
  std::size_t bytes;
  std::size_t code_points;
};

// The longest start that is valid and has at most `limit` code points.
Prefix valid_prefix(std::string_view text, std::size_t limit) noexcept {
  const char* p = text.data();
  const char* const end = p + text.size();
  std::size_t count = 0;
  while (p != end && count < limit) {
    // Most text is ASCII, eight bytes of which are looked at together.
    while (std::cmp_greater_equal(end - p, kWordBytes) && limit - count >= kWordBytes &&
           (load({p, kWordBytes}) & kHighBits) == 0) {
      p += kWordBytes;
      count += kWordBytes;
    }
    if (p == end || count == limit) break;
    const char* const start = p;
    if (decode_utf8(p, end) == kReplacementCharacter && std::string_view(start, p) != kReplacement) {
      return {static_cast<std::size_t>(start - text.data()), count};
    }
    ++count;
  }
  return {static_cast<std::size_t>(p - text.data()), count};
}

}  // namespace

ValidText valid_utf8(std::string_view text, std::size_t limit, std::string& scratch) {
  const Prefix valid = valid_prefix(text, limit);
  if (valid.bytes == text.size() || valid.code_points == limit) {
    return {text.substr(0, valid.bytes), valid.bytes == text.size()};
  }
  scratch.assign(text.substr(0, valid.bytes));
  const char* p = text.data() + valid.bytes;
  const char* const end = text.data() + text.size();
  for (std::size_t count = valid.code_points; p != end && count < limit; ++count) {
    encode_utf8(decode_utf8(p, end), [&scratch](unsigned char byte) { scratch.push_back(static_cast<char>(byte)); });
  }
  return {scratch, p == end};
}

std::string shown(std::string_view text) {
  constexpr std::size_t kMostShown = 200;
  std::string scratch;
  std::string result(valid_utf8(text, kMostShown, scratch).text);
  std::ranges::replace_if(result, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return result;
}

}  // namespace routellm_fast
