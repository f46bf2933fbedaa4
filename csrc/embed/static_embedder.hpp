#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/aligned.hpp"
#include "text/surface_features.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {

struct KernelTable;

/// One vector a token. Either `float32` or `int8` with one scale a column is filled; rows and weights belong to float32
/// tables whose vocabulary was quantised (model2vec's "mapping" and "weights").
struct TokenTable {
  std::size_t dim = 0;
  AlignedVector<float> float32;
  AlignedVector<std::int8_t> int8;
  std::vector<float> column_scale;
  std::vector<std::uint32_t> rows;
  std::vector<float> weights;

  [[nodiscard]] std::size_t row_count() const noexcept {
    return dim == 0 ? 0 : (int8.empty() ? float32.size() : int8.size()) / dim;
  }
};

struct StaticEmbedderOptions {
  std::size_t max_tokens = 512;
  // The text is read no further than this many code points, whatever its tokens: with the cap on tokens it bounds the
  // cost of a prompt, so that ten megabytes cost no more than a long prompt.
  std::size_t max_code_points = std::size_t{64} * 512;
  bool normalize = true;                         // scale the mean of the token vectors to unit length
  std::optional<std::uint32_t> dropped_token;    // the unknown token, which model2vec leaves out of the mean
  std::vector<SurfaceFeature> surface_features;  // dimensions behind the token dimensions
};

/// A text's embedding: the mean of its token vectors (model2vec), then its surface features. The text without tokens
/// has the zero vector before its features. Immutable and thread-safe; `embed` allocates nothing
/// after a thread's first call.
class StaticEmbedder {
 public:
  /// Throws Error(kInvalidArgument) where sizes do not agree. The tokenizer may be null: then only token ids are
  /// embedded.
  StaticEmbedder(std::shared_ptr<const WordPieceTokenizer> tokenizer, TokenTable table, StaticEmbedderOptions options,
                 const KernelTable& kernels);

  [[nodiscard]] std::size_t dim() const noexcept { return table_.dim + options_.surface_features.size(); }
  [[nodiscard]] std::size_t token_dim() const noexcept { return table_.dim; }
  [[nodiscard]] const TokenTable& table() const noexcept { return table_; }
  [[nodiscard]] const StaticEmbedderOptions& options() const noexcept { return options_; }
  [[nodiscard]] const KernelTable& kernels() const noexcept { return *kernels_; }

  /// Writes dim() floats.
  void embed(std::string_view utf8, float* out) const;

  /// The same from token ids found elsewhere, for vocabularies that the native tokenizer does not read. Throws
  /// Error(kInvalidArgument) for an id outside the table.
  void embed_ids(std::span<const std::uint32_t> ids, std::string_view utf8, float* out) const;

  /// One number a token, so that for texts of n > 0 pooled tokens weights . embed(text) = sum(scores[ids]) / n + the
  /// surface features' part. Exact only without normalisation; computed in float64.
  [[nodiscard]] std::vector<float> token_scores(std::span<const float> weights) const;

  /// The tokens that are pooled (dropped tokens removed) and what the features need; ids live until the thread's next
  /// call.
  struct Tokens {
    std::span<const std::uint32_t> ids;
    std::string_view read;  // the part of the text that was read
    std::size_t found = 0;  // tokens before dropping
  };
  [[nodiscard]] Tokens tokenize(std::string_view utf8) const;

 private:
  void pool(std::span<const std::uint32_t> ids, float* out) const;
  [[nodiscard]] std::size_t drop(std::span<std::uint32_t> ids) const noexcept;

  std::shared_ptr<const WordPieceTokenizer> tokenizer_;
  TokenTable table_;
  StaticEmbedderOptions options_;
  const KernelTable* kernels_;
};

}  // namespace routellm_fast
