#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {

/// What a tokenizer.json (Hugging Face's format) describes.
struct TokenizerFile {
  /// Null where it is none of BERT's WordPiece kind: only the `tokenizers` library reads it then.
  std::shared_ptr<const WordPieceTokenizer> tokenizer;
  /// Of the token that stands for unknown words, which is left out of the mean.
  std::optional<std::uint32_t> unknown_token;
};

/// Throws Error(kBadDirectory) for a file that is damaged.
[[nodiscard]] TokenizerFile read_tokenizer_json(std::string_view content);

}  // namespace routellm_fast
