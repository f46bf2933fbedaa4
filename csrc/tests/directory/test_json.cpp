#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "directory/json.hpp"

namespace routellm_fast {
namespace {

double number(const char* text) { return parse_json(text).number()->value; }

TEST_CASE("a document of every type") {
  const JsonValue value =
      parse_json(" {\"a\": [1, -2.5e1, true, false, null, \"x\\n\\u00e9\\ud83d\\ude00\"],\r\n\t\"b\": {}} ");
  REQUIRE(value.has_exactly({"a", "b"}));
  const JsonValue::Array& items = *value.find("a")->array();
  REQUIRE(items.size() == 6);
  CHECK(items[0].integer() == 1);
  CHECK(items[1].number()->value == -25.0);
  CHECK_FALSE(items[1].integer());
  CHECK(*items[2].boolean());
  CHECK_FALSE(*items[3].boolean());
  CHECK(items[4].is_null());
  CHECK(*items[5].text() == "x\n\u00e9\U0001F600");
  CHECK(value.find("b")->object()->empty());
  CHECK(value.find("c") == nullptr);
  CHECK(items[0].find("a") == nullptr);
  CHECK_FALSE(value.has_exactly({"a"}));
  CHECK(std::string(value.type_name()) == "an object");
}

TEST_CASE("numbers are read to the nearest float64, however large or small") {
  CHECK(number("0.1") == 0.1);
  CHECK(number("-0") == 0.0);
  CHECK(std::signbit(number("-0.0")));
  CHECK(number("2.2250738585072011e-308") == 2.2250738585072011e-308);
  CHECK(number("1e-400") == 0.0);
  CHECK(number(("0." + std::string(400, '0') + "1").c_str()) == 0.0);
  CHECK(number(("1" + std::string(400, '0') + "e-300").c_str()) == doctest::Approx(1e100));
  CHECK(parse_json("9223372036854775807").integer() == std::numeric_limits<std::int64_t>::max());
  CHECK_FALSE(parse_json("9223372036854775808").integer());
  CHECK(parse_json("9223372036854775808").number()->is_integer);
  CHECK_FALSE(parse_json("1.0").number()->is_integer);
}

TEST_CASE("what is no JSON is refused, with the fault and its place") {
  const std::vector<std::pair<std::string, std::string>> faults{
      {"", "expected a value"},
      {"{", "expected a key"},
      {"{\"a\"}", "expected a colon"},
      {"{\"a\": 1,}", "expected a key"},
      {"[1,]", "expected a value"},
      {"[1 2]", "expected a comma"},
      {"01", "something follows"},
      {"1.", "expected a digit"},
      {"1e", "expected a digit"},
      {"-", "expected a digit"},
      {"+1", "expected a value"},
      {".5", "expected a value"},
      {"NaN", "expected a value"},
      {"[Infinity]", "expected a value"},
      {"-Infinity", "expected a digit"},
      {"nul", "expected a value"},
      {"1 1", "something follows"},
      {"\"a", "has no end"},
      {"\"\\", "has no end"},
      {R"("\x")", "unknown escape"},
      {R"("\u12g4")", "hexadecimal"},
      {"\"\\u12", "hexadecimal"},
      {"\"\n\"", "control character"},
      {"\"\xFF\"", "not UTF-8"},
      {"\"\xED\xA0\x80\"", "not UTF-8"},
      {"\xEF\xBB\xBF{}", "a byte order mark"},
      {std::string("{\0}\0", 4), "UTF-16"},
      {std::string("\0{\0}", 4), "UTF-16"},
      {std::string("\xFF\xFE{\0}\0", 6), "UTF-16"},
      {"1e999", "beyond 1.8e308"},
      {"[-1e309]", "beyond 1.8e308"},
      {"1" + std::string(309, '0'), "beyond 1.8e308"},
      {"1e99999999999999999999", "beyond 1.8e308"},
      {R"({"a": 1, "b": 2, "a": 3})", "\"a\" stands twice"},
      {R"({"\u0061": 1, "a": 3})", "\"a\" stands twice"},
  };
  for (const auto& [document, fault] : faults) {
    CAPTURE(document);
    try {
      (void)parse_json(document);
      FAIL("was read");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kBadDirectory);
      CHECK(std::string(error.what()).find(fault) != std::string::npos);
      CHECK(std::string(error.what()).find(" at byte ") != std::string::npos);
    }
  }
  CHECK_THROWS_AS((void)parse_json(std::string_view("1\0", 2)), Error);
}

TEST_CASE("nesting has an end, whatever the size") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK_NOTHROW((void)parse_json(nested(kMostNestedJson)));
  CHECK_THROWS_WITH_AS((void)parse_json(nested(kMostNestedJson + 1)), doctest::Contains("nested"), Error);
  CHECK_THROWS_AS((void)parse_json(std::string(1'000'000, '[')), Error);
}

TEST_CASE("U+FFFD itself is text, and a lone surrogate is kept as three bytes") {
  CHECK(*parse_json("\"\xEF\xBF\xBD\"").text() == "\xEF\xBF\xBD");
  CHECK(*parse_json("\"\\ud800\\u0041\"").text() ==
        "\xED\xA0\x80"
        "A");
}

TEST_CASE("an integer that fits no int64 keeps its digits") {
  const JsonValue document = parse_json("[18446744073709551615, -9223372036854775809, 12, 1e3, -0]");
  const auto& items = *document.array();
  CHECK(*items[0].number()->digits == "18446744073709551615");
  CHECK(items[0].number()->value == 18446744073709551615.0);
  CHECK(*items[1].number()->digits == "-9223372036854775809");
  for (const std::size_t k : {2U, 3U, 4U}) CHECK(items[k].number()->digits == nullptr);
  CHECK(items[2].integer() == 12);
  CHECK_FALSE(items[3].integer().has_value());
  CHECK(*parse_json(std::string(308, '7')).number()->digits == std::string(308, '7'));
  CHECK_THROWS_WITH_AS((void)parse_json(std::string(310, '7')), doctest::Contains("beyond 1.8e308"), Error);
  CHECK_FALSE(std::signbit(items[4].number()->value));
  CHECK(std::signbit(parse_json("-0.0").number()->value));
}

}  // namespace
}  // namespace routellm_fast
