#include "json.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace routellm_fast::triton {
namespace {

void write_string(std::string_view text, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kDigits[static_cast<unsigned char>(c) >> 4U];
      out += kDigits[static_cast<unsigned char>(c) & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_utf8(std::uint32_t point, std::string& out) {
  const auto tail = [&](unsigned shift) { out += static_cast<char>(0x80U | ((point >> shift) & 0x3FU)); };
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0U | (point >> 6U));
    tail(0);
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0U | (point >> 12U));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0U | (point >> 18U));
    tail(12);
    tail(6);
    tail(0);
  }
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = read(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows the value");
    return value;
  }

 private:
  static constexpr int kMostLevels = 64;

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(what + " at byte " + std::to_string(at_));
  }

  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  void expect(char wanted) {
    skip_space();
    if (peek() != wanted) fail(std::string("expected '") + wanted + "'");
    ++at_;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json read(int level) {
    if (level > kMostLevels) fail("nested too deep");
    skip_space();
    switch (peek()) {
      case '{':
        return object(level);
      case '[':
        return array(level);
      case '"':
        return Json::string(string());
      default:
        if (take("true")) return Json::boolean(true);
        if (take("false")) return Json::boolean(false);
        if (take("null")) return {};
        return number();
    }
  }

  Json object(int level) {
    std::vector<Json::Member> members;
    expect('{');
    skip_space();
    if (peek() == '}') {
      ++at_;
      return Json::object(std::move(members));
    }
    while (true) {
      skip_space();
      std::string name = string();
      expect(':');
      members.emplace_back(std::move(name), read(level + 1));
      skip_space();
      if (peek() != ',') break;
      ++at_;
    }
    expect('}');
    return Json::object(std::move(members));
  }

  Json array(int level) {
    std::vector<Json> elements;
    expect('[');
    skip_space();
    if (peek() == ']') {
      ++at_;
      return Json::array(std::move(elements));
    }
    while (true) {
      elements.push_back(read(level + 1));
      skip_space();
      if (peek() != ',') break;
      ++at_;
    }
    expect(']');
    return Json::array(std::move(elements));
  }

  Json number() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::string_view("+-.0123456789eE").find(text_[at_]) != std::string_view::npos) ++at_;
    if (at_ == begin) fail("expected a value");
    return Json::number_text(std::string(text_.substr(begin, at_ - begin)));
  }

  std::uint32_t four_digits() {
    std::uint32_t unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      std::uint32_t digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<std::uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<std::uint32_t>(c - 'a') + 10;
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<std::uint32_t>(c - 'A') + 10;
      } else {
        fail("expected four hexadecimal digits");
      }
      unit = unit * 16 + digit;
    }
    return unit;
  }

  void escape(std::string& out) {
    const char c = peek();
    ++at_;
    switch (c) {
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'u':
        break;
      default:
        fail("an unknown escape");
    }
    std::uint32_t point = four_digits();
    if (point >= 0xD800 && point < 0xDC00 && take("\\u")) {
      const std::uint32_t low = four_digits();
      if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
      point = 0x10000 + ((point - 0xD800) << 10U) + (low - 0xDC00);
    }
    if (point >= 0xD800 && point <= 0xDFFF) fail("half a surrogate pair");
    append_utf8(point, out);
  }

  std::string string() {
    std::string out;
    expect('"');
    while (at_ < text_.size() && text_[at_] != '"') {
      const char c = text_[at_++];
      if (c == '\\') {
        escape(out);
      } else {
        out += c;
      }
    }
    if (at_ == text_.size()) fail("a string does not end");
    ++at_;
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Json Json::boolean(bool value) { return {Type::kBoolean, value ? "true" : "false"}; }
Json Json::number(long long value) { return {Type::kNumber, std::to_string(value)}; }
Json Json::number_text(std::string text) { return {Type::kNumber, std::move(text)}; }
Json Json::string(std::string value) { return {Type::kString, std::move(value)}; }

Json Json::array(std::vector<Json> elements) {
  Json value(Type::kArray, "");
  value.elements_ = std::move(elements);
  return value;
}

Json Json::object(std::vector<Member> members) {
  Json value(Type::kObject, "");
  value.members_ = std::move(members);
  return value;
}

Json Json::parse(std::string_view text) { return Reader(text).whole(); }

std::string Json::dump() const {
  std::string out;
  write(out);
  return out;
}

const Json* Json::find(std::string_view name) const noexcept {
  for (const auto& [key, value] : members_) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Json::set(std::string_view name, Json value) {
  for (auto& [key, old] : members_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  members_.emplace_back(std::string(name), std::move(value));
}

void Json::write(std::string& out) const {
  const char* separator = "";
  switch (type_) {
    case Type::kNull:
      out += "null";
      return;
    case Type::kBoolean:
    case Type::kNumber:
      out += text_;
      return;
    case Type::kString:
      write_string(text_, out);
      return;
    case Type::kArray:
      out += '[';
      for (const Json& element : elements_) {
        out += separator;
        element.write(out);
        separator = ",";
      }
      out += ']';
      return;
    case Type::kObject:
      out += '{';
      for (const auto& [name, value] : members_) {
        out += separator;
        write_string(name, out);
        out += ':';
        value.write(out);
        separator = ",";
      }
      out += '}';
      return;
  }
}

}  // namespace routellm_fast::triton
