// Any bytes are a document. What is read is written again in one way and must read as the same; what is refused must be
// refused by name. Aborts where an invariant breaks.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/json.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::JsonValue;

void require(bool condition) {
  if (!condition) std::abort();
}

void write_text(const std::string& text, std::string& out) {
  out += '"';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_surrogate = byte == 0xED && static_cast<unsigned char>(text[i + 1]) >= 0xA0;
    constexpr const char* kDigits = "0123456789abcdef";
    if (is_surrogate) {  // three bytes that are no UTF-8
      const unsigned code = 0xD000U | (static_cast<unsigned char>(text[i + 1]) & 0x3FU) << 6U |
                            (static_cast<unsigned char>(text[i + 2]) & 0x3FU);
      out += "\\u";
      for (unsigned shift = 16; shift > 0; shift -= 4) out += kDigits[code >> (shift - 4) & 0xFU];
      i += 2;
    } else if (byte < 0x20 || byte == '"' || byte == '\\') {
      out += std::string("\\u00") + kDigits[byte >> 4U] + kDigits[byte & 0xFU];
    } else {
      out += text[i];
    }
  }
  out += '"';
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the parser lets a document be
void write(const JsonValue& value, std::string& out) {
  if (const bool* const boolean = value.boolean()) {
    out += *boolean ? "true" : "false";
  } else if (const auto* const number = value.number()) {
    if (number->integer) {
      out += std::to_string(*number->integer);
    } else if (!std::isfinite(number->value)) {
      out += number->value > 0 ? "1e999" : "-1e999";
    } else {
      char text[64];
      (void)std::snprintf(text, sizeof(text), "%.17e", number->value);
      out += text;
    }
  } else if (const auto* const text = value.text()) {
    write_text(*text, out);
  } else if (const auto* const items = value.array()) {
    out += '[';
    for (std::size_t i = 0; i < items->size(); ++i) {
      if (i > 0) out += ',';
      write((*items)[i], out);
    }
    out += ']';
  } else if (const auto* const members = value.object()) {
    out += '{';
    for (std::size_t i = 0; i < members->size(); ++i) {
      if (i > 0) out += ',';
      write_text((*members)[i].first, out);
      out += ':';
      write((*members)[i].second, out);
      require(value.find((*members)[i].first) == &(*members)[i].second);
    }
    out += '}';
  } else {
    require(value.is_null());
    out += "null";
  }
}

std::string written(const JsonValue& value) {
  std::string out;
  write(value, out);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data, data + size);
  try {
    const JsonValue value = routellm_fast::parse_json(std::string_view(bytes.data(), bytes.size()));
    const std::string once = written(value);
    require(written(routellm_fast::parse_json(once)) == once);
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kBadDirectory);
  }
  return 0;
}
