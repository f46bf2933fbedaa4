#include "triton/json_text.hpp"

#include <array>
#include <charconv>
#include <string_view>

namespace routellm_fast::triton {
namespace {

void write(std::string_view text, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
}

void write(const JsonNumber& number, std::string& out) {
  std::array<char, 32> digits{};
  const auto end = number.integer ? std::to_chars(digits.data(), digits.data() + digits.size(), *number.integer)
                                  : std::to_chars(digits.data(), digits.data() + digits.size(), number.value);
  out.append(digits.data(), end.ptr);
}

// Recursion is at most as deep as parse_json lets a document be.
// NOLINTNEXTLINE(misc-no-recursion)
void write(const JsonValue& value, std::string& out) {
  const char* separator = "";
  if (const auto* members = value.object()) {
    out += '{';
    for (const auto& [name, member] : *members) {
      out += separator;
      write(name, out);
      out += ':';
      write(member, out);
      separator = ",";
    }
    out += '}';
  } else if (const auto* elements = value.array()) {
    out += '[';
    for (const JsonValue& element : *elements) {
      out += separator;
      write(element, out);
      separator = ",";
    }
    out += ']';
  } else if (const auto* text = value.text()) {
    write(std::string_view(*text), out);
  } else if (const auto* number = value.number()) {
    write(*number, out);
  } else if (const auto* boolean = value.boolean()) {
    out += *boolean ? "true" : "false";
  } else {
    out += "null";
  }
}

}  // namespace

std::string json_text(const JsonValue& value) {
  std::string out;
  write(value, out);
  return out;
}

}  // namespace routellm_fast::triton
