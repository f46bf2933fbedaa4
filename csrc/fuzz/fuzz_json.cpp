// Any bytes are a document. What is read is written again and must read as the same; what is refused must be refused by
// name.

#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/json.hpp"
#include "support/require.hpp"
#include "triton/json_text.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::JsonNumber;
using routellm_fast::JsonValue;
using routellm_fast::fuzz::require;

bool are_same(const JsonNumber& a, const JsonNumber& b) {
  const bool has_digits = a.digits != nullptr && b.digits != nullptr;
  return std::bit_cast<std::uint64_t>(a.value) == std::bit_cast<std::uint64_t>(b.value) &&
         a.is_integer == b.is_integer && a.integer == b.integer &&
         (has_digits ? *a.digits == *b.digits : a.digits == b.digits);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the parser lets a document be
bool are_same(const JsonValue& a, const JsonValue& b) {
  if (a.boolean() != nullptr && b.boolean() != nullptr) return *a.boolean() == *b.boolean();
  if (a.number() != nullptr && b.number() != nullptr) return are_same(*a.number(), *b.number());
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.array() != nullptr && b.array() != nullptr) {
    if (a.array()->size() != b.array()->size()) return false;
    for (std::size_t i = 0; i < a.array()->size(); ++i) {
      if (!are_same((*a.array())[i], (*b.array())[i])) return false;
    }
    return true;
  }
  if (a.object() != nullptr && b.object() != nullptr) {
    if (a.object()->size() != b.object()->size()) return false;
    for (std::size_t i = 0; i < a.object()->size(); ++i) {
      const auto& [key, value] = (*a.object())[i];
      if ((*b.object())[i].first != key || !are_same(value, (*b.object())[i].second)) return false;
      require(a.find(key) == &value, "a member is found by its key");
    }
    return true;
  }
  return a.is_null() && b.is_null();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data, data + size);
  try {
    const JsonValue value = routellm_fast::parse_json(std::string_view(bytes.data(), bytes.size()));
    require(are_same(value, routellm_fast::parse_json(routellm_fast::triton::json_text(value))),
            "what was read reads as the same once it is written");
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kBadDirectory, "what is refused is refused by name");
  }
  return 0;
}
