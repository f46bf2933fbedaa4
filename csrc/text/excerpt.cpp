#include "text/excerpt.hpp"

#include "text/utf8.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {

Excerpt read_of(std::string_view text, const ReadLimits& limits, std::string (&scratch)[2]) {
  const ValidText start = valid_utf8(text, limits.whole, scratch[0]);
  if (start.is_all) return Excerpt::of(start.text);
  if (limits.tail == 0) return {start.text, {}, text.size()};
  const std::string_view end = last_code_points(text, limits.tail);
  return {valid_utf8(text, limits.head(), scratch[0]).text, valid_utf8(end, limits.tail, scratch[1]).text, text.size()};
}

}  // namespace routellm_fast
