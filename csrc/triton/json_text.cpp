#include "triton/json_text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace routellm_fast::triton {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

void write_escaped(unsigned code, std::string& out) {
  out += "\\u";
  for (unsigned shift = 16; shift > 0; shift -= 4) out += kDigits[code >> (shift - 4) & 15U];
}

void write(std::string_view text, std::string& out) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(text[i])); };
  out += '"';
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' || text[i] == '\\') {
      out += '\\';
      out += text[i];
    } else if (byte(i) < 0x20) {
      write_escaped(byte(i), out);
    } else if (byte(i) == 0xED && byte(i + 1) >= 0xA0) {  // half of a surrogate pair: three bytes that are no UTF-8
      write_escaped(0xD000U | (byte(i + 1) & 0x3FU) << 6U | (byte(i + 2) & 0x3FU), out);
      i += 2;
    } else {
      out += text[i];
    }
  }
  out += '"';
}

void write(const JsonNumber& number, std::string& out) {
  if (number.digits != nullptr) {
    out += *number.digits;
    return;
  }
  std::array<char, 32> text{};
  const bool is_minus_zero = number.value == 0.0 && std::signbit(number.value);
  const auto end = number.integer && !is_minus_zero
                       ? std::to_chars(text.data(), text.data() + text.size(), *number.integer)
                       : std::to_chars(text.data(), text.data() + text.size(), number.value);
  const std::string_view written(text.data(), end.ptr);
  out += written;
  // What was written as no integer must not be read as one.
  if (!number.is_integer && written.find_first_of(".e") == std::string_view::npos) out += ".0";
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
