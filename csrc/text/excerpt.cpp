#include "text/excerpt.hpp"

#include <algorithm>

#include "text/utf8.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {

Excerpt read_of(std::string_view text, const ReadLimits& limits, std::string& scratch) {
  const ValidText start = valid_utf8(text, limits.whole, scratch);
  if (start.is_all) return Excerpt::of(start.text);
  // Replacement characters may make the start as long as the whole ill-formed text: it is a start all the same.
  if (limits.tail == 0) return {start.text, {}, std::max(text.size(), start.text.size() + 1)};
  // Where the last code points begin in an ill-formed text, and its length, only reading it from the start can tell.
  const std::string_view all = valid_utf8(text, text.size(), scratch).text;
  return {first_code_points(all, limits.head()), last_code_points(all, limits.tail), all.size()};
}

}  // namespace routellm_fast
