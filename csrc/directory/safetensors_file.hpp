#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "directory/tensor.hpp"

namespace routellm_fast {

using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// The tensors of a whole safetensors file in memory; they share its contents. Throws Error(kBadDirectory), without the
/// file's name, for a header that breaks the format, and for tensors that overlap or leave bytes between or behind
/// them.
[[nodiscard]] TensorMap read_safetensors(const std::shared_ptr<const std::string>& content);

/// The header of a safetensors file of this one tensor, to the byte, without its length and padding.
[[nodiscard]] std::string one_tensor_header(std::string_view name, DataType type, const Shape& shape,
                                            std::uint64_t bytes);

}  // namespace routellm_fast
