#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "directory/contents.hpp"
#include "directory/manifest.hpp"
#include "directory/open_directory.hpp"

namespace routellm_fast {

/// Memory for a file's bytes.
struct FileBuffer {
  char* data;
  std::shared_ptr<const void> owner;
};

/// Makes the memory that a file of this name and size is read into.
using AllocateFile = std::function<FileBuffer(const std::string& name, std::size_t bytes)>;
[[nodiscard]] FileBuffer allocate_file(const std::string& name, std::size_t bytes);

/// The file of all tensors that are not mapped.
inline constexpr std::string_view kWeightsFile = "weights.safetensors";

/// Reads and checks a directory: format version, keys and types, names, sizes and digests of files, sizes and headers
/// of mapped tensors, shapes, finite weights. Where a digest is given (64 hexadecimal digits, maybe after "sha256:"),
/// the manifest must have it, and mapped tensors are verified whole: what is returned is then, to the byte, what the
/// digest was taken of, but for the model card. Throws Error: kNotFound for a missing file, kNewerVersion, kDamaged
/// where the digest is another, a file differs from what the manifest recorded or a weight is not finite, kOutOfMemory,
/// kInvalidArgument for a digest that is none, kBadDirectory for any other fault.
[[nodiscard]] DirectoryContents read_directory(const DirectoryHandle& directory, const DirectoryLayout& layout,
                                               const AllocateFile& allocate = allocate_file,
                                               const std::optional<std::string>& digest = std::nullopt);

/// Called with the bytes that were verified so far, and all that there are.
using OnVerified = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Reads the data of the mapped tensors too, in bounded memory, and checks digests and that every value is finite. A
/// file is read and not looked at through its mapping: a disk that fails is then an error and no signal. Returns the
/// bytes of all files with digests. Throws Error(kDamaged).
std::uint64_t verify_mapped(const DirectoryHandle& directory, const DirectoryContents& contents,
                            const OnVerified& on_verified);

}  // namespace routellm_fast
