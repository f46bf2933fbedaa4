#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/aligned.hpp"
#include "text/excerpt.hpp"
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
  // No more code points of a text are read than this, whatever its tokens: with the cap on tokens it bounds the cost of
  // a prompt, so that ten megabytes cost no more than a long prompt.
  std::size_t max_code_points = std::size_t{64} * 512;
  // How many of max_tokens are for the end of a text that has more: its question often stands there. The same part of
  // max_code_points is for the end too. With 0 only the start of such a text is read, and its length is what was read.
  std::size_t tail_tokens = 0;
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

  /// How much of a text is read.
  [[nodiscard]] const ReadLimits& limits() const noexcept { return limits_; }

  /// Writes dim() floats. Returns whether all of the text was read.
  bool embed(const Excerpt& text, float* out) const;

  /// The same from what another tokenizer found, for vocabularies that the native one does not read. Throws
  /// Error(kInvalidArgument) for an id outside the table, and for more ids than max_tokens.
  struct Found {
    std::span<const std::uint32_t> ids;  // those that are pooled, dropped tokens among them
    std::size_t token_count = 0;         // of the text
  };
  void embed_ids(const Found& found, const Excerpt& text, float* out) const;

  /// One number a token, so that for texts of n > 0 pooled tokens weights . embed(text) = sum(scores[ids]) / n + the
  /// surface features' part. Exact only without normalisation; computed in float64.
  [[nodiscard]] std::vector<float> token_scores(std::span<const float> weights) const;

  /// What is read of a text: its tokens, which live until the thread's next call, and what the features need.
  struct Tokens {
    std::span<std::uint32_t> ids;
    Excerpt read;           // what was read of the text
    std::size_t count = 0;  // the tokens read, or where both ends are read an estimate for the text
    bool is_whole = false;  // whether all of the text was read
  };
  /// All tokens that are read, dropped ones among them.
  [[nodiscard]] Tokens find(const Excerpt& text) const;
  /// Those that are pooled.
  [[nodiscard]] Tokens tokenize(const Excerpt& text) const;

 private:
  /// The ends of a text whose middle is not at hand, or with `whole` of one that is all there: they may then overlap.
  [[nodiscard]] Tokens find_in_ends(const Excerpt& text, std::string_view whole) const;
  void pool(std::span<const std::uint32_t> ids, float* out) const;
  [[nodiscard]] std::size_t drop(std::span<std::uint32_t> ids) const noexcept;

  std::shared_ptr<const WordPieceTokenizer> tokenizer_;
  TokenTable table_;
  StaticEmbedderOptions options_;
  ReadLimits limits_;
  const KernelTable* kernels_;
};

}  // namespace routellm_fast
