#include "directory/tensor.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace routellm_fast {
namespace {

struct TypeFacts {
  DataType type;
  const char* name;
  const char* header_name;
  std::size_t bytes;
};

constexpr std::array<TypeFacts, 12> kTypes{{{DataType::kInt8, "int8", "I8", 1},
                                            {DataType::kInt16, "int16", "I16", 2},
                                            {DataType::kInt32, "int32", "I32", 4},
                                            {DataType::kInt64, "int64", "I64", 8},
                                            {DataType::kUint8, "uint8", "U8", 1},
                                            {DataType::kUint16, "uint16", "U16", 2},
                                            {DataType::kUint32, "uint32", "U32", 4},
                                            {DataType::kUint64, "uint64", "U64", 8},
                                            {DataType::kFloat16, "float16", "F16", 2},
                                            {DataType::kFloat32, "float32", "F32", 4},
                                            {DataType::kFloat64, "float64", "F64", 8},
                                            {DataType::kBool, "bool", "BOOL", 1}}};

const TypeFacts& facts_of(DataType type) noexcept { return kTypes[static_cast<std::size_t>(type)]; }

std::optional<DataType> named(std::string_view name, const char* TypeFacts::* field) noexcept {
  const auto* const found = std::ranges::find_if(kTypes, [&](const TypeFacts& facts) { return name == facts.*field; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->type);
}

// A value is NaN or infinite where all bits of its exponent are set.
template <typename Bits>
std::optional<NonFinite> first_non_finite_bits(const Tensor& tensor, Bits exponent) noexcept {
  const Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  for (std::size_t i = 0; i < tensor.bytes / sizeof(Bits); ++i) {
    Bits bits = 0;
    std::memcpy(&bits, tensor.data + i * sizeof(Bits), sizeof(Bits));
    if ((bits & exponent) != exponent) continue;
    const bool is_infinite = static_cast<Bits>(bits & ~sign) == exponent;
    if (!is_infinite) return NonFinite{i, "nan"};
    return NonFinite{i, (bits & sign) != 0 ? "-inf" : "inf"};
  }
  return std::nullopt;
}

}  // namespace

std::size_t size_of(DataType type) noexcept { return facts_of(type).bytes; }
const char* name_of(DataType type) noexcept { return facts_of(type).name; }
const char* header_name_of(DataType type) noexcept { return facts_of(type).header_name; }
std::optional<DataType> type_named(std::string_view name) noexcept { return named(name, &TypeFacts::name); }
std::optional<DataType> type_named_in_header(std::string_view name) noexcept {
  return named(name, &TypeFacts::header_name);
}

std::optional<std::uint64_t> bytes_of(DataType type, const Shape& shape) noexcept {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  std::uint64_t bytes = size_of(type);
  bool is_empty = false;
  for (const std::uint64_t count : shape) {
    is_empty = is_empty || count == 0;
    if (count == 0) continue;  // of an empty tensor too, no array has counts beyond all memory
    if (count > kMost / bytes) return std::nullopt;
    bytes *= count;
  }
  return is_empty ? 0 : bytes;
}

std::string describe(DataType type, const Shape& shape) {
  std::string text = std::string(name_of(type)) + " (";
  for (std::size_t k = 0; k < shape.size(); ++k) text += (k == 0 ? "" : ", ") + std::to_string(shape[k]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::optional<NonFinite> first_non_finite(const Tensor& tensor) noexcept {
  switch (tensor.type) {
    case DataType::kFloat16:
      return first_non_finite_bits<std::uint16_t>(tensor, 0x7C00U);
    case DataType::kFloat32:
      return first_non_finite_bits<std::uint32_t>(tensor, 0x7F800000U);
    case DataType::kFloat64:
      return first_non_finite_bits<std::uint64_t>(tensor, 0x7FF0000000000000U);
    default:
      return std::nullopt;
  }
}

}  // namespace routellm_fast
