#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/aligned.hpp"

namespace routellm_fast {

/// What a tensor of a router directory holds, little-endian.
enum class DataType : std::uint8_t {
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kFloat16,
  kFloat32,
  kFloat64,
  kBool,
};

using Shape = std::vector<std::uint64_t>;

[[nodiscard]] std::size_t size_of(DataType type) noexcept;
/// As in router.json: "float32".
[[nodiscard]] const char* name_of(DataType type) noexcept;
/// As in a safetensors header: "F32".
[[nodiscard]] const char* header_name_of(DataType type) noexcept;
[[nodiscard]] std::optional<DataType> type_named(std::string_view name) noexcept;
[[nodiscard]] std::optional<DataType> type_named_in_header(std::string_view name) noexcept;

/// Bytes of a tensor; nothing where its counts, those of 0 left out, make more than 2^63.
[[nodiscard]] std::optional<std::uint64_t> bytes_of(DataType type, const Shape& shape) noexcept;

/// "float32 (3, 4)".
[[nodiscard]] std::string describe(DataType type, const Shape& shape);

/// Values in C order in memory that `owner` keeps: a file's contents, or a mapping of it. Data of a file's contents may
/// lie on any byte; that of a mapping is aligned to 64.
struct Tensor {
  DataType type = DataType::kUint8;
  Shape shape;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::shared_ptr<const void> owner;

  [[nodiscard]] std::size_t count() const noexcept { return bytes / size_of(type); }

  /// A copy of the values, whose type the caller has checked.
  template <typename T>
  [[nodiscard]] std::vector<T> values() const {
    std::vector<T> copy(bytes / sizeof(T));
    if (!copy.empty()) std::memcpy(copy.data(), data, copy.size() * sizeof(T));
    return copy;
  }

  template <typename T>
  [[nodiscard]] AlignedVector<T> aligned_values() const {
    AlignedVector<T> copy(bytes / sizeof(T));
    if (!copy.empty()) std::memcpy(copy.data(), data, copy.size() * sizeof(T));
    return copy;
  }
};

/// Index in C order of the first value that is NaN or infinite, and its text; nothing where all are finite.
struct NonFinite {
  std::size_t index;
  const char* value;  // "nan", "inf" or "-inf"
};
[[nodiscard]] std::optional<NonFinite> first_non_finite(const Tensor& tensor) noexcept;

}  // namespace routellm_fast
