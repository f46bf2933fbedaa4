#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "score/cell_sums.hpp"
#include "score/tier_refit.hpp"

namespace routellm_fast {

struct KernelTable;

/// From embeddings to win rates by similarity-weighted ranking: cell sums, then the refit. Immutable and thread-safe; a
/// win rate depends neither on the batch nor on the number of threads, bitwise.
class SimilarityScorer {
 public:
  /// Throws Error(kInvalidArgument) when the parts have different cells.
  SimilarityScorer(std::shared_ptr<const CellSums> sums, std::shared_ptr<const TierRefit> refit,
                   const KernelTable& kernels);

  [[nodiscard]] std::size_t dim() const noexcept { return sums_->dim(); }
  [[nodiscard]] const TierRefit& refit() const noexcept { return *refit_; }

  /// What to do with an embedding of zeros, which is similar to nothing: all battles weigh the same, or an error.
  enum class Zeros : bool { kRefuse, kWeighAllEqually };

  /// Writes `count` win rates. Throws Error(kInvalidEmbedding), naming the row, for a non-finite or refused embedding,
  /// and where the largest similarity is exactly 0.
  void win_rates(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros, double* out) const;

  /// Writes count x num_tiers ratings; see TierRefit::ratings.
  void ratings(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros, double* out) const;

 private:
  using Finish = void (SimilarityScorer::*)(const double* cell_sums, double* out) const;

  void finish_win_rate(const double* cell_sums, double* out) const;
  void finish_ratings(const double* cell_sums, double* out) const;
  void score(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros, Finish finish,
             std::size_t width, double* out) const;
  void score_slice(const float* embeddings, std::size_t begin, std::size_t end, Zeros zeros, Finish finish,
                   std::size_t width, double* out) const;

  std::shared_ptr<const CellSums> sums_;
  std::shared_ptr<const TierRefit> refit_;
  const KernelTable* kernels_;
  std::vector<double> equal_sums_;
};

/// Writes the lengths of `count` vectors, in float64: works where squares leave float32's range. Throws
/// Error(kInvalidEmbedding), naming the row, for zeros and values that are not finite.
void row_norms(const float* rows, std::size_t count, std::size_t dim, const KernelTable& kernels, double* norms);

}  // namespace routellm_fast
