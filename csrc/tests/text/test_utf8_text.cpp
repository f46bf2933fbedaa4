#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

TEST_CASE("valid text is borrowed, and ends at the limit") {
  std::string scratch;
  for (const std::string text :
       {"", "a", "plain ASCII of more than eight bytes", "\u00e9\u4e2d\U0001F600 mixed \xEF\xBF\xBD"}) {
    const ValidText found = valid_utf8(text, 1000, scratch);
    CHECK(found.text == text);
    CHECK(found.text.data() == text.data());
    CHECK(found.is_all);
  }
  CHECK(valid_utf8("\u00e9\u4e2d\U0001F600x", 3, scratch).text == "\u00e9\u4e2d\U0001F600");
  CHECK(valid_utf8("0123456789abcdefg", 9, scratch).text == "012345678");
  CHECK(valid_utf8("abcde\x80\x80", 5, scratch).text == "abcde");  // what lies behind the limit does not belong to it
}

TEST_CASE("every maximal subpart of an invalid sequence is one U+FFFD") {
  std::string scratch;
  const auto read = [&](std::string_view text, std::size_t limit = 1000) {
    return std::string(valid_utf8(text, limit, scratch).text);
  };
  const std::string r = "\xEF\xBF\xBD";
  CHECK(read("a\xFFz") == "a" + r + "z");
  CHECK(read("\xE4\xB8") == r);
  CHECK(read("\xE4\xB8z") == r + "z");
  CHECK(read("\xED\xA0\x80") == r + r + r);  // a surrogate
  CHECK(read("\xC0\x80") == r + r);          // an overlong NUL
  CHECK(read("\xF4\x90\x80\x80") == r + r + r + r);
  CHECK(read(std::string_view("\0\xFF\0", 3)) == std::string("\0", 1) + r + std::string("\0", 1));
  CHECK(read("a\xFF\xFF\xFFz", 3) == "a" + r + r);
}

TEST_CASE("a text is all there where the limit is its own length") {
  std::string scratch;
  for (const std::string text : {"abcde", "\u00e9\u4e2d\U0001F600xy", "a\xFF\xFF\xFFz"}) {
    CHECK(valid_utf8(text, 5, scratch).is_all);
    CHECK_FALSE(valid_utf8(text, 4, scratch).is_all);
  }
}

}  // namespace
}  // namespace routellm_fast
