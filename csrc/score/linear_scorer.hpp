#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/aligned.hpp"
#include "embed/static_embedder.hpp"

namespace routellm_fast {

struct KernelTable;

/// 1 / (1 + exp(-logit)), in [0, 1].
[[nodiscard]] float sigmoid(float logit) noexcept;

/// Matrix factorisation for one pair of models, folded to a vector v: win rate = sigmoid(v . embedding). Immutable and
/// thread-safe; scores allocate nothing, and a row's score does not depend on its batch.
class LinearScorer {
 public:
  /// Throws Error(kInvalidArgument) for an empty or non-finite vector.
  LinearScorer(std::span<const float> weights, const KernelTable& kernels);

  [[nodiscard]] std::size_t dim() const noexcept { return weights_.size(); }
  [[nodiscard]] std::span<const float> weights() const noexcept { return weights_; }

  /// Throws Error(kInvalidEmbedding) for a non-finite embedding of dim() values.
  [[nodiscard]] float win_rate(const float* embedding) const;

  /// out[r] = win_rate(embeddings + r * stride), bitwise; the error names the row and the column.
  void win_rates(const float* embeddings, std::size_t count, std::size_t stride, float* out) const;

 private:
  // A non-finite input always makes a non-finite logit (infinity * 0 is NaN), so the check is free until it strikes.
  [[nodiscard]] float checked(float logit, const float* embedding, std::size_t row) const;

  AlignedVector<float> weights_;
  const KernelTable* kernels_;
};

/// Every model's logit at once: (models x dim) rows, out[m] = row_m . embedding. A pair's win rate is
/// sigmoid(out[strong] - out[weak]).
class LinearModels {
 public:
  LinearModels(std::span<const float> rows, std::size_t models, const KernelTable& kernels);

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t model_count() const noexcept { return models_; }

  /// Writes count x model_count() logits. Throws Error(kInvalidEmbedding) as LinearScorer does.
  void logits(const float* embeddings, std::size_t count, std::size_t stride, float* out) const;

 private:
  std::size_t models_;
  std::size_t dim_;
  AlignedVector<float> rows_;
  const KernelTable* kernels_;
};

/// From text to win rate in one call: a static embedder and a folded vector. Where the embedder does not normalise,
/// mean and dot product change places exactly, and a token costs one number instead of a vector.
class TextScorer {
 public:
  /// Throws Error(kInvalidArgument) when the dimensions differ.
  TextScorer(std::shared_ptr<const StaticEmbedder> embedder, std::span<const float> weights);

  [[nodiscard]] bool is_folded() const noexcept { return !token_scores_.empty(); }
  [[nodiscard]] const StaticEmbedder& embedder() const noexcept { return *embedder_; }

  /// Also tells whether all of the text was read, where `is_whole` is not null.
  [[nodiscard]] float win_rate(const Excerpt& text, bool* is_whole = nullptr) const;

 private:
  std::shared_ptr<const StaticEmbedder> embedder_;
  LinearScorer scorer_;
  std::vector<float> token_scores_;
};

}  // namespace routellm_fast
