#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace routellm_fast {

/// Matrix factorisation's weights: P is models x d, W is d x dim, w has d values.
struct FactorWeights {
  std::span<const float> P;  // NOLINT(readability-identifier-naming): the paper's letters
  std::span<const float> W;  // NOLINT(readability-identifier-naming)
  std::span<const float> w;
  std::size_t dim = 0;

  [[nodiscard]] std::size_t model_count() const noexcept { return w.empty() ? 0 : P.size() / w.size(); }
};

/// Rows of dim values whose dot product with an embedding is a model's logit, for the models of `models`, in float64:
/// logit_m = w . (P_m / |P_m| o W e) is linear in e. The order of the additions is fixed, so that every language and
/// machine folds to the same bits. Throws Error(kInvalidArgument) for sizes that do not agree or a model out of range.
[[nodiscard]] std::vector<double> fold_models(const FactorWeights& weights, std::span<const std::size_t> models);

/// fold_models of a pair, the strong model's row less the weak one's, as float32; beyond it infinite.
[[nodiscard]] std::vector<float> fold_pair(const FactorWeights& weights, std::size_t strong, std::size_t weak);

}  // namespace routellm_fast
