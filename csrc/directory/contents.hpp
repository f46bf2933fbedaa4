#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "directory/json.hpp"
#include "directory/open_directory.hpp"
#include "directory/safetensors_file.hpp"
#include "directory/tensor.hpp"

namespace routellm_fast {

/// What a router or an embedder is made of, read from a directory (docs/artifact-format.md) or given from memory.
/// Whoever makes one has checked all but the rules of its kind: keys and types of the manifest, names, and what
/// `tensors` and `files` say of themselves.
struct DirectoryContents {
  DirectoryContents() = default;
  DirectoryContents(DirectoryContents&&) = default;
  DirectoryContents& operator=(DirectoryContents&&) = default;
  DirectoryContents(const DirectoryContents&) = delete;
  DirectoryContents& operator=(const DirectoryContents&) = delete;
  ~DirectoryContents() = default;

  std::string path;             // for messages; of contents in memory what they are called
  bool is_directory = false;    // whether a fault is the directory's, or of the arguments that made the contents
  std::string manifest_sha256;  // of the manifest's file, 64 hexadecimal digits; empty for contents in memory
  JsonValue manifest;           // of the current format
  TensorMap tensors;            // of weights.safetensors
  TensorMap mapped;             // each from a file of its own; their data was not read
  // Of `mapped`, by its names; in memory, of those arrays only that are mapped from a file.
  std::map<std::string, std::shared_ptr<const MappedFile>, std::less<>> mapped_files;
  std::map<std::string, FileContent, std::less<>> files;  // all others with a digest
  std::string model_card;                                 // README.md, any bytes; empty where there is none

  /// A key of the manifest that is known to be there.
  [[nodiscard]] const JsonValue& entry(std::string_view key) const { return *manifest.find(key); }
};

}  // namespace routellm_fast
