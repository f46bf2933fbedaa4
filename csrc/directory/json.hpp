#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace routellm_fast {

/// A number of JSON: `value` to the nearest float64, always finite, and `integer` where it was written without a point
/// and an exponent and fits. `is_integer` says how it was written, whether it fits or not; one that does not fit keeps
/// its `digits`. The integer -0 is 0.
struct JsonNumber {
  double value = 0.0;
  bool is_integer = false;
  std::optional<std::int64_t> integer;
  std::shared_ptr<const std::string> digits = nullptr;
};

/// A JSON document. Text is UTF-8; an escaped surrogate without its other half is kept as three bytes, as if it were a
/// character (valid_utf8 makes U+FFFD of it).
// NOLINTNEXTLINE(misc-no-recursion): a document is copied as deep as the parser lets it be
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;  // in the order of the document

  JsonValue() = default;
  explicit JsonValue(bool value) : value_(value) {}
  explicit JsonValue(JsonNumber value) : value_(value) {}
  explicit JsonValue(std::string value) : value_(std::move(value)) {}
  explicit JsonValue(Array value) : value_(std::move(value)) {}
  explicit JsonValue(Object value) : value_(std::move(value)) {}

  [[nodiscard]] bool is_null() const noexcept { return std::holds_alternative<std::monostate>(value_); }
  /// Each is null where the value is of another type.
  [[nodiscard]] const bool* boolean() const noexcept { return std::get_if<bool>(&value_); }
  [[nodiscard]] const JsonNumber* number() const noexcept { return std::get_if<JsonNumber>(&value_); }
  [[nodiscard]] const std::string* text() const noexcept { return std::get_if<std::string>(&value_); }
  [[nodiscard]] const Array* array() const noexcept { return std::get_if<Array>(&value_); }
  [[nodiscard]] const Object* object() const noexcept { return std::get_if<Object>(&value_); }
  /// The integer that the value is, if it is one and fits.
  [[nodiscard]] std::optional<std::int64_t> integer() const noexcept;

  /// An object's member, or null where the value is no object or has no such member.
  [[nodiscard]] const JsonValue* find(std::string_view key) const noexcept;
  /// The object with this member, in the place of one of the same key.
  [[nodiscard]] JsonValue with(std::string_view key, JsonValue value) &&;
  /// The object without this member, which it need not have.
  [[nodiscard]] JsonValue without(std::string_view key) &&;
  /// True for an object with exactly these keys.
  [[nodiscard]] bool has_exactly(std::initializer_list<std::string_view> keys) const noexcept;

  /// "null", "a boolean", "a number", "a string", "a list" or "an object", for messages.
  [[nodiscard]] const char* type_name() const noexcept;

 private:
  std::variant<std::monostate, bool, JsonNumber, std::string, Array, Object> value_;
};

/// Lists and objects within one another: at most this many.
inline constexpr std::size_t kMostNestedJson = 64;

/// Reads a whole document of RFC 8259: valid UTF-8 without a byte order mark, no key twice in one object, no NaN or
/// Infinity, no number beyond float64, nested at most kMostNestedJson deep. Throws Error(kBadDirectory) that names the
/// fault and its byte; bounded in stack and memory by the document's size.
[[nodiscard]] JsonValue parse_json(std::string_view document);

}  // namespace routellm_fast
