#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace routellm_fast {

/// What went wrong, so that a binding can choose its own exception class.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument,   // a caller's value breaks a documented rule
  kInvalidEmbedding,  // a non-finite or wrongly shaped embedding
  kUnsupportedIsa,    // an instruction set that this machine or build lacks
  kNotFound,          // no such directory, or a file of it is missing
  kNewerVersion,      // a directory of a format that this version does not read yet
  kDamaged,           // a file differs from what its manifest recorded, or a weight is not finite
  kBadDirectory,      // a directory that breaks its format, or holds what the core does not run
  kEmbedderMismatch,  // the embedder is not the one that the router was made for
  kNoEmbedder,        // a text for a router that scores embeddings only
  kOutOfMemory,       // a directory needs more memory than the process can get
};

/// The only exception that the core throws for faults a user can cause. The message says what was found, what was
/// expected and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace routellm_fast
