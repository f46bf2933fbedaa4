#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "text/excerpt.hpp"
#include "text/utf8.hpp"

namespace routellm_fast {
namespace {

TEST_CASE("the last code points begin where one does, and are bounded in bytes") {
  CHECK(last_code_points("abc", 5) == "abc");
  CHECK(last_code_points("abc", 2) == "bc");
  CHECK(last_code_points("\u00e9\u4e2d\U0001F600x", 2) == "\U0001F600x");
  CHECK(last_code_points("\u00e9\u4e2d\U0001F600x", 3) == "\u4e2d\U0001F600x");
  CHECK(last_code_points("abc", 0).empty());
  const std::string continuations(100, '\x80');
  CHECK(last_code_points(continuations, 3).size() == 12);
}

TEST_CASE("a short text is read whole, of a long one its start or its two ends") {
  std::string scratch;
  const Excerpt whole = read_of("0123456789", {.whole = 10, .tail = 4}, scratch);
  CHECK(whole.head == "0123456789");
  CHECK(whole.tail.empty());
  CHECK(whole.bytes == 10);
  const Excerpt start = read_of("0123456789", {.whole = 9, .tail = 0}, scratch);
  CHECK(start.head == "012345678");
  CHECK(start.tail.empty());
  CHECK(start.bytes == 10);
  const Excerpt ends = read_of("0123456789", {.whole = 9, .tail = 4}, scratch);
  CHECK(ends.head == "01234");
  CHECK(ends.tail == "6789");
  CHECK(ends.bytes == 10);
  const Excerpt broken = read_of("\xFF\xFFxxxxxxxx\xFF\xFFz", {.whole = 5, .tail = 2}, scratch);
  CHECK(broken.head == "\xEF\xBF\xBD\xEF\xBF\xBDx");
  CHECK(broken.tail == "\xEF\xBF\xBDz");
  CHECK(broken.bytes == 21);  // each of four invalid bytes is read as three
  const Excerpt continuations = read_of("xxxx\x80\x80\x80\x80yz", {.whole = 5, .tail = 3}, scratch);
  CHECK(continuations.head == "xx");
  CHECK(continuations.tail == "\xEF\xBF\xBDyz");
}

TEST_CASE("the start of an ill-formed text is known to be a start, however long it is once it is valid") {
  std::string scratch;
  // Two characters of four make as many bytes as the text has.
  const Excerpt start = read_of({"\0\xC3\xED\xA9", 4}, {.whole = 2, .tail = 0}, scratch);
  CHECK(start.head == std::string_view("\0\xEF\xBF\xBD", 4));
  CHECK(start.bytes > start.head.size());
}

}  // namespace
}  // namespace routellm_fast
