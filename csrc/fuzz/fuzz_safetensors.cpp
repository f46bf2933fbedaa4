// Any bytes are a safetensors file. What is read must be a list of tensors that fills the file to the byte.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "directory/safetensors_file.hpp"
#include "directory/tensor.hpp"
#include "support/require.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::Tensor;
using routellm_fast::fuzz::require;

void check(const Tensor& tensor, std::string_view file) {
  const auto* const begin = reinterpret_cast<const std::byte*>(file.data());
  require(tensor.data >= begin && tensor.data + tensor.bytes <= begin + file.size(), "a tensor lies in its file");
  require(routellm_fast::bytes_of(tensor.type, tensor.shape) == tensor.bytes, "a tensor has the bytes of its shape");
  require(tensor.count() * routellm_fast::size_of(tensor.type) == tensor.bytes, "a tensor has whole values");
  require(tensor.values<std::byte>().size() == tensor.bytes, "a copy of a tensor has all of it");
  if (const auto bad = routellm_fast::first_non_finite(tensor)) {
    require(bad->index < tensor.count(), "a value that is not finite is one of the tensor's");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const auto bytes = std::make_shared<const std::vector<char>>(data, data + size);
  const std::string_view file(bytes->data(), bytes->size());
  try {
    const routellm_fast::TensorMap tensors = routellm_fast::read_safetensors({file, bytes});
    std::size_t total = 0;
    for (const auto& [name, tensor] : tensors) {
      check(tensor, file);
      total += tensor.bytes;
    }
    std::uint64_t header = 0;
    for (std::size_t k = 0; k < 8; ++k) header |= static_cast<std::uint64_t>(data[k]) << 8 * k;
    require(8 + header + total == size, "tensors fill their file");
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kBadDirectory, "what is refused is refused by name");
  }
  return 0;
}
