#pragma once

#include <memory>
#include <string>

#include "directory/contents.hpp"
#include "embed/static_embedder.hpp"

namespace routellm_fast {

/// The embedder of a router directory, as far as the core runs it.
struct StoredEmbedder {
  /// Null for a router that scores embeddings only.
  std::shared_ptr<const StaticEmbedder> embedder;
  /// Why texts cannot be read, and what to do; empty where they can.
  std::string why_no_text;
};

/// Restores the embedder that the manifest names. A static one is built from tensors and tokenizer.json, the one that
/// ships is read from the directory "../mf" beside `directory`; both must have the recorded dim and fingerprint. Of the
/// other kinds, and of a tokenizer that needs a library, only `why_no_text` is left. Throws Error(kBadDirectory), and
/// Error(kNotFound) where the embedder that ships is not there.
[[nodiscard]] StoredEmbedder restore_embedder(const DirectoryHandle& directory, const DirectoryContents& contents);

}  // namespace routellm_fast
