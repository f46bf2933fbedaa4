#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "directory/tensor.hpp"

namespace routellm_fast {

using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// A whole file in memory that `owner` keeps.
struct FileContent {
  std::string_view bytes;
  std::shared_ptr<const void> owner;
};

/// The tensors of a whole safetensors file in memory; they share its contents. Throws Error(kBadDirectory), without the
/// file's name, for a header that breaks the format, and for tensors that overlap or leave bytes between or behind
/// them.
[[nodiscard]] TensorMap read_safetensors(const FileContent& content);

/// The header of a safetensors file of this one tensor, to the byte, without its length and padding.
[[nodiscard]] std::string one_tensor_header(std::string_view name, DataType type, const Shape& shape,
                                            std::uint64_t bytes);

}  // namespace routellm_fast
