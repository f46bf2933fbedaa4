#include "directory/json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.hpp"
#include "text/utf8_decoder.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

class Parser {
 public:
  explicit Parser(std::string_view document) : begin_(document.data()), at_(begin_), end_(begin_ + document.size()) {}

  JsonValue document() {
    refuse_other_encodings();
    JsonValue result = value(0);
    skip_space();
    if (at_ != end_) fail("something follows the document");
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kBadDirectory, what + " at byte " + std::to_string(at_ - begin_));
  }

  void refuse_other_encodings() const {
    const std::string_view start(begin_, std::min<std::size_t>(3, static_cast<std::size_t>(end_ - begin_)));
    if (start.starts_with("\xEF\xBB\xBF")) fail("a byte order mark: JSON is UTF-8 without one");
    const bool has_zero = start.size() >= 2 && (start[0] == '\0' || start[1] == '\0');
    if (has_zero || start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF")) {
      fail("UTF-16 or UTF-32: JSON is UTF-8");
    }
  }

  void skip_space() noexcept {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }

  // The next character that is no space; 0 at the end, which stands for nothing in JSON.
  char peek() noexcept {
    skip_space();
    return at_ == end_ ? '\0' : *at_;
  }

  void expect(char c, const char* what) {
    if (peek() != c || at_ == end_) fail(std::string("expected ") + what);
    ++at_;
  }

  bool take(std::string_view word) noexcept {
    if (static_cast<std::size_t>(end_ - at_) < word.size() || std::memcmp(at_, word.data(), word.size()) != 0) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  JsonValue value(std::size_t depth) {  // NOLINT(misc-no-recursion): bounded by kMostNestedJson
    switch (peek()) {
      case '{':
        return JsonValue(object(depth));
      case '[':
        return JsonValue(array(depth));
      case '"':
        return JsonValue(string());
      case 't':
        if (take("true")) return JsonValue(true);
        break;
      case 'f':
        if (take("false")) return JsonValue(false);
        break;
      case 'n':
        if (take("null")) return {};
        break;
      default:
        if (at_ != end_ && (*at_ == '-' || is_digit(*at_))) return JsonValue(number());
        break;
    }
    fail("expected a value");
  }

  void enter(std::size_t depth) {
    if (depth == kMostNestedJson) fail("nested more than " + std::to_string(kMostNestedJson) + " deep");
    ++at_;
  }

  JsonValue::Object object(std::size_t depth) {  // NOLINT(misc-no-recursion): bounded by kMostNestedJson
    enter(depth);
    JsonValue::Object members;
    if (peek() == '}') {
      ++at_;
      return members;
    }
    while (true) {
      if (peek() != '"') fail("expected a key");
      std::string key = string();
      expect(':', "a colon");
      members.emplace_back(std::move(key), value(depth + 1));
      if (peek() == '}') break;
      expect(',', "a comma or a closing brace");
    }
    ++at_;
    refuse_repeated(members);
    return members;
  }

  void refuse_repeated(const JsonValue::Object& members) const {
    std::vector<std::string_view> keys(members.size());
    std::ranges::transform(members, keys.begin(), [](const auto& member) { return std::string_view(member.first); });
    std::ranges::sort(keys);
    const auto repeated = std::ranges::adjacent_find(keys);
    if (repeated != keys.end()) fail("the key \"" + shown(*repeated) + "\" stands twice before");
  }

  JsonValue::Array array(std::size_t depth) {  // NOLINT(misc-no-recursion): bounded by kMostNestedJson
    enter(depth);
    JsonValue::Array items;
    if (peek() == ']') {
      ++at_;
      return items;
    }
    while (true) {
      items.push_back(value(depth + 1));
      if (peek() == ']') break;
      expect(',', "a comma or a closing bracket");
    }
    ++at_;
    return items;
  }

  void digits() {
    if (at_ == end_ || !is_digit(*at_)) fail("expected a digit");
    while (at_ != end_ && is_digit(*at_)) ++at_;
  }

  JsonNumber number() {
    const char* const start = at_;
    JsonNumber result{.value = 0.0, .is_integer = true, .integer = std::nullopt, .digits = nullptr};
    if (*at_ == '-') ++at_;
    if (at_ != end_ && *at_ == '0') {
      ++at_;
    } else {
      digits();
    }
    if (at_ != end_ && *at_ == '.') {
      ++at_;
      digits();
      result.is_integer = false;
    }
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      digits();
      result.is_integer = false;
    }
    if (std::from_chars(start, at_, result.value).ec == std::errc::result_out_of_range) {
      result.value = out_of_range({start, at_});
    }
    std::int64_t integer = 0;
    if (!result.is_integer) return result;
    if (std::from_chars(start, at_, integer).ec == std::errc()) {
      result.integer = integer;
      if (integer == 0) result.value = 0.0;  // -0 is an integer like any other
    } else {
      result.digits = std::make_shared<const std::string>(start, at_);
    }
    return result;
  }

  // from_chars leaves the value alone where it is too large or too small. Which of the two, the place of the first
  // digit that is not 0 decides, or the exponent where that is far from it.
  [[nodiscard]] double out_of_range(std::string_view number) const {
    const bool negative = number.front() == '-';
    if (negative) number.remove_prefix(1);
    const std::size_t e = std::min(number.find_first_of("eE"), number.size());
    const std::string_view mantissa = number.substr(0, e);
    const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
    const std::size_t first = mantissa.find_first_of("123456789");
    long long exponent = 0;
    if (e < number.size()) {
      const char* begin = number.data() + e + 1;
      const char* const end = number.data() + number.size();
      const bool is_small = *begin == '-';
      if (*begin == '+') ++begin;
      if (std::from_chars(begin, end, exponent).ec == std::errc::result_out_of_range) {
        exponent = is_small ? std::numeric_limits<long long>::min() / 2 : std::numeric_limits<long long>::max() / 2;
      }
    }
    const bool is_large = static_cast<long long>(point) - static_cast<long long>(first) > -exponent;
    if (is_large) fail("a number beyond 1.8e308, the largest of 64-bit floats, ends");
    return negative ? -0.0 : 0.0;
  }

  std::string string() {
    ++at_;
    std::string text;
    while (true) {
      const char* const start = at_;
      while (at_ != end_ && *at_ != '"' && *at_ != '\\' && static_cast<unsigned char>(*at_) >= 0x20) {
        if (static_cast<unsigned char>(*at_) < 0x80) {
          ++at_;
          continue;
        }
        const char* const character = at_;
        if (decode_utf8(at_, end_) == kReplacementCharacter && std::string_view(character, at_) != "\xEF\xBF\xBD") {
          at_ = character;
          fail("not UTF-8");
        }
      }
      text.append(start, at_);
      if (at_ == end_) fail("a string has no end");
      if (*at_ == '"') break;
      if (*at_ != '\\') fail("a control character in a string");
      escape(text);
    }
    ++at_;
    return text;
  }

  void escape(std::string& text) {
    ++at_;
    if (at_ == end_) fail("a string has no end");
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const std::size_t index = kNames.find(*at_);
    if (index != std::string_view::npos) {
      text.push_back(kMeanings[index]);
      ++at_;
      return;
    }
    if (*at_ != 'u') fail("an unknown escape");
    ++at_;
    char32_t c = four_digits();
    if (c >= 0xD800 && c <= 0xDBFF && static_cast<std::size_t>(end_ - at_) >= 6 && at_[0] == '\\' && at_[1] == 'u') {
      const char* const second = at_;
      at_ += 2;
      const char32_t low = four_digits();
      if (low >= 0xDC00 && low <= 0xDFFF) {
        c = 0x10000U + ((c - 0xD800U) << 10U) + (low - 0xDC00U);
      } else {
        at_ = second;
      }
    }
    encode_utf8(c, [&text](unsigned char byte) { text.push_back(static_cast<char>(byte)); });
  }

  char32_t four_digits() {
    if (end_ - at_ < 4) fail("expected four hexadecimal digits");
    std::uint32_t code = 0;
    const auto [stop, fault] = std::from_chars(at_, at_ + 4, code, 16);
    if (fault != std::errc() || stop != at_ + 4) fail("expected four hexadecimal digits");
    at_ = stop;
    return code;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
};

}  // namespace

std::optional<std::int64_t> JsonValue::integer() const noexcept {
  const JsonNumber* const found = number();
  return found == nullptr ? std::nullopt : found->integer;
}

const JsonValue* JsonValue::find(std::string_view key) const noexcept {
  const Object* const members = object();
  if (members == nullptr) return nullptr;
  const auto found = std::ranges::find_if(*members, [key](const auto& member) { return member.first == key; });
  return found == members->end() ? nullptr : &found->second;
}

JsonValue JsonValue::with(std::string_view key, JsonValue value) && {
  Object members = std::move(std::get<Object>(value_));
  const auto found = std::ranges::find_if(members, [key](const auto& member) { return member.first == key; });
  if (found == members.end()) {
    members.emplace_back(key, std::move(value));
  } else {
    found->second = std::move(value);
  }
  return JsonValue(std::move(members));
}

JsonValue JsonValue::without(std::string_view key) && {
  Object members = std::move(std::get<Object>(value_));
  std::erase_if(members, [key](const auto& member) { return member.first == key; });
  return JsonValue(std::move(members));
}

bool JsonValue::has_exactly(std::initializer_list<std::string_view> keys) const noexcept {
  const Object* const members = object();
  return members != nullptr && members->size() == keys.size() &&
         std::ranges::all_of(keys, [this](std::string_view key) { return find(key) != nullptr; });
}

const char* JsonValue::type_name() const noexcept {
  constexpr std::array<const char*, 6> kNames{"null", "a boolean", "a number", "a string", "a list", "an object"};
  return kNames[value_.index()];  // NOLINT(*-constant-array-index): one a type
}

JsonValue parse_json(std::string_view document) { return Parser(document).document(); }

}  // namespace routellm_fast
