#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "score/bradley_terry.hpp"

namespace routellm_fast {

/// All battles between two tiers that ended alike: their weights enter the refit as one sum. Where RouteLLM's design
/// matrix turns a battle inside a tier into one of that tier against a rating of 0, side_a is the anchor, num_tiers.
struct Cell {
  std::uint16_t side_a;
  std::uint16_t side_b;
  Outcome outcome;
  double battles;
};

enum class RefitSolver : std::uint8_t { kExact, kRouteLlm };

/// The weighted Bradley-Terry refit of one query, from the sum of the weights in each cell to the win rate of one tier
/// over another. Immutable and thread-safe.
class TierRefit {
 public:
  /// Throws Error(kInvalidArgument) for a tier out of range, and with the exact solver for a pair of tiers whose
  /// difference has no finite maximum of the likelihood: neither, directly or through others, both won and lost.
  TierRefit(std::size_t num_tiers, std::vector<Cell> cells, std::size_t strong_tier, std::size_t weak_tier,
            RefitSolver solver);

  [[nodiscard]] std::size_t num_tiers() const noexcept { return num_tiers_; }
  [[nodiscard]] std::span<const Cell> cells() const noexcept { return cells_; }

  /// In [0, 1]; 0.5 where both models are of one tier. The scale of the sums does not matter.
  [[nodiscard]] double win_rate(std::span<const double> cell_sums) const;

  /// num_tiers() ratings, a difference of one for odds of ten to one; NaN for a tier that cannot be compared with the
  /// strong one. RouteLLM's Elo is 400 times that, plus 1000.
  void ratings(std::span<const double> cell_sums, std::span<double> out) const;

 private:
  void fit(std::span<const double> cell_sums, std::span<double> ratings) const;

  std::size_t num_tiers_;
  std::vector<Cell> cells_;
  std::size_t strong_tier_;
  std::size_t weak_tier_;
  RefitSolver solver_;
  std::vector<std::size_t> members_;
  std::vector<double> start_;  // the ratings of all battles at equal weights: close to any query's
};

}  // namespace routellm_fast
