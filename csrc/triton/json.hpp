#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace routellm_fast::triton {

/// One JSON value, as much of it as a model configuration needs. Members keep their order and numbers their text, so
/// that what is only passed on comes out as it came in.
class Json {
 public:
  enum class Type { kNull, kBoolean, kNumber, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  Json() = default;
  static Json boolean(bool value);
  static Json number(long long value);
  static Json number_text(std::string text);
  static Json string(std::string value);
  static Json array(std::vector<Json> elements);
  static Json object(std::vector<Member> members);

  /// Reads one value that fills the text. Throws std::invalid_argument, which says where it stopped, where the text is
  /// no JSON or is nested more than 64 deep.
  static Json parse(std::string_view text);
  [[nodiscard]] std::string dump() const;

  [[nodiscard]] Type type() const noexcept { return type_; }
  /// Text of a string or a number, "true" or "false" of a boolean, else empty.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] const std::vector<Json>& elements() const noexcept { return elements_; }
  [[nodiscard]] const std::vector<Member>& members() const noexcept { return members_; }
  [[nodiscard]] bool is_true() const noexcept { return type_ == Type::kBoolean && text_ == "true"; }

  /// The member of this name, nullptr where there is none or this is no object.
  [[nodiscard]] const Json* find(std::string_view name) const noexcept;
  /// Replaces the member of this name, or adds it. Only for objects.
  void set(std::string_view name, Json value);

 private:
  Json(Type type, std::string text) : type_(type), text_(std::move(text)) {}

  void write(std::string& out) const;

  Type type_ = Type::kNull;
  std::string text_;
  std::vector<Json> elements_;
  std::vector<Member> members_;
};

}  // namespace routellm_fast::triton
