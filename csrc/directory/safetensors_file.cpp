#include "directory/safetensors_file.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/json.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the limit of safetensors' own library

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kBadDirectory, "no safetensors file that can be read: " + what);
}

std::uint64_t little_endian(std::string_view bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t k = 0; k < kLengthBytes; ++k) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[k])) << 8 * k;
  }
  return value;
}

std::uint64_t count_of(const JsonValue& value, const std::string& name) {
  const auto found = value.integer();
  if (!found || *found < 0) refuse("tensor " + shown(name) + " has a shape or offsets that are no counts");
  return static_cast<std::uint64_t>(*found);
}

struct Place {
  std::uint64_t begin;
  std::uint64_t end;
};

std::pair<Tensor, Place> entry_of(const std::string& name, const JsonValue& entry) {
  const JsonValue* const type = entry.find("dtype");
  const JsonValue* const shape = entry.find("shape");
  const JsonValue* const offsets = entry.find("data_offsets");
  const bool fits = entry.has_exactly({"dtype", "shape", "data_offsets"}) && type->text() != nullptr &&
                    shape->array() != nullptr && offsets->array() != nullptr && offsets->array()->size() == 2;
  if (!fits) refuse("tensor " + shown(name) + " is not described by dtype, shape and data_offsets");
  const auto known = type_named_in_header(*type->text());
  if (!known) refuse("tensor " + shown(name) + " has the unknown dtype " + shown(*type->text()));
  Tensor tensor;
  tensor.type = *known;
  for (const JsonValue& count : *shape->array()) tensor.shape.push_back(count_of(count, name));
  const Place place{count_of((*offsets->array())[0], name), count_of((*offsets->array())[1], name)};
  const auto bytes = bytes_of(tensor.type, tensor.shape);
  if (!bytes || place.end < place.begin || place.end - place.begin != *bytes) {
    refuse("tensor " + shown(name) + " is " + describe(tensor.type, tensor.shape) + " at bytes " +
           std::to_string(place.begin) + " to " + std::to_string(place.end));
  }
  tensor.bytes = static_cast<std::size_t>(*bytes);
  return {std::move(tensor), place};
}

}  // namespace

TensorMap read_safetensors(const FileContent& content) {
  const std::string_view file = content.bytes;
  if (file.size() < kLengthBytes) refuse("it has " + std::to_string(file.size()) + " bytes");
  const std::uint64_t length = little_endian(file);
  if (length > kMostHeaderBytes || length > file.size() - kLengthBytes) {
    refuse("its header claims " + std::to_string(length) + " bytes");
  }
  const std::string_view header = file.substr(kLengthBytes, static_cast<std::size_t>(length));
  const std::string_view data = file.substr(kLengthBytes + header.size());
  const JsonValue description = [&] {
    try {
      return parse_json(header);
    } catch (const Error& error) {
      refuse(std::string("its header is not valid JSON (") + error.what() + ")");
    }
  }();
  if (description.object() == nullptr) refuse("its header is no object");
  std::vector<std::pair<Place, std::string>> places;
  TensorMap tensors;
  for (const auto& [name, entry] : *description.object()) {
    if (name == "__metadata__") continue;  // free text
    auto [tensor, place] = entry_of(name, entry);
    if (place.end > data.size()) refuse("tensor " + shown(name) + " ends behind the file");
    tensor.data = reinterpret_cast<const std::byte*>(data.data()) + place.begin;
    tensor.owner = content.owner;
    tensors.emplace(name, std::move(tensor));
    places.emplace_back(place, name);
  }
  std::ranges::sort(places, [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  std::uint64_t end = 0;
  for (const auto& [place, name] : places) {
    if (place.begin != end) refuse("tensor " + shown(name) + " does not begin where the one before it ends");
    end = place.end;
  }
  if (end != data.size()) refuse(std::to_string(data.size() - end) + " bytes belong to no tensor");
  return tensors;
}

std::string one_tensor_header(std::string_view name, DataType type, const Shape& shape, std::uint64_t bytes) {
  std::string text = R"({")" + std::string(name) + R"(":{"dtype":")" + header_name_of(type) + R"(","shape":[)";
  for (std::size_t k = 0; k < shape.size(); ++k) text += (k == 0 ? "" : ",") + std::to_string(shape[k]);
  return text + R"(],"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
}

}  // namespace routellm_fast
