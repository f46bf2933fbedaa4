#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "directory/json.hpp"
#include "directory/safetensors_file.hpp"
#include "directory/tensor.hpp"

namespace routellm_fast {

/// The contents of a router directory (docs/artifact-format.md), checked but for the rules of its kind: format version,
/// keys and types, names, sizes and digests of files, sizes and headers of mapped tensors, shapes, finite weights.
struct DirectoryContents {
  std::string path;             // for messages
  std::string manifest_sha256;  // of router.json, 64 hexadecimal digits
  JsonValue manifest;
  TensorMap tensors;  // of weights.safetensors
  TensorMap mapped;   // each from a file of its own; their data was not read
  std::map<std::string, std::shared_ptr<const std::string>, std::less<>> files;  // all others

  /// A key of the manifest that the reader has found there.
  [[nodiscard]] const JsonValue& entry(std::string_view key) const { return *manifest.find(key); }
};

/// An open directory. Its files are read through one handle: should it be replaced meanwhile, the old one is read.
class DirectoryHandle {
 public:
  /// Throws Error(kNotFound) for what is no directory that can be read.
  explicit DirectoryHandle(std::string path);
  /// The directory at `relative`, as seen from another one.
  DirectoryHandle(const DirectoryHandle& from, const std::string& relative);
  ~DirectoryHandle();
  DirectoryHandle(const DirectoryHandle&) = delete;
  DirectoryHandle& operator=(const DirectoryHandle&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  std::string path_;
  int descriptor_;
};

/// Reads and checks a router directory. Throws Error: kNotFound for a missing file, kBadDirectory for any other fault.
[[nodiscard]] DirectoryContents read_router_directory(const DirectoryHandle& directory);

}  // namespace routellm_fast
