#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace routellm_fast {

/// How often, by weight, each player beat each other one: at(i, j) for i over j. A tie is half a win each.
class WinTable {
 public:
  explicit WinTable(std::size_t players) : players_(players), wins_(players * players, 0.0) {}

  [[nodiscard]] std::size_t players() const noexcept { return players_; }
  [[nodiscard]] double& at(std::size_t i, std::size_t j) noexcept { return wins_[i * players_ + j]; }
  [[nodiscard]] double at(std::size_t i, std::size_t j) const noexcept { return wins_[i * players_ + j]; }
  [[nodiscard]] double total() const noexcept;
  void clear() noexcept;
  /// Divides by total(), so that no solver depends on the scale of the weights.
  void normalize() noexcept;

 private:
  std::size_t players_;
  std::vector<double> wins_;
};

/// How a battle ended. A tie is half a win for each side.
enum class Outcome : std::uint8_t { kA, kB, kTie };

/// Adds battles to a table whose last player is an anchor with the rating 0. Where both sides of a battle are one
/// player, RouteLLM's design matrix keeps a battle of the anchor, as side a, against that player; so does this.
void add_battles(WinTable& wins, std::span<const std::uint16_t> side_a, std::span<const std::uint16_t> side_b,
                 std::span<const Outcome> outcomes);

/// Adds the battles of one kind, `weight` of them: a win counts twice what a tie gives each side.
void add_battle(WinTable& wins, std::size_t side_a, std::size_t side_b, Outcome outcome, double weight) noexcept;

/// Which players of a table have ratings of maximum likelihood in common: every one of them beat, perhaps through
/// others, every other one (Ford 1957). Depends on which entries are positive, never on their size.
///
/// Returns for each player the number of its group; a player without battles is a group of its own.
[[nodiscard]] std::vector<std::size_t> comparable_groups(const WinTable& wins);

/// Ratings of maximum likelihood under P(i beats j) = 1 / (1 + 10^(r_j - r_i)), by Newton's method in float64.
///
/// The players of `members` only (a group from comparable_groups). If `anchor` is one of them its rating is 0;
/// otherwise the ratings' mean is. `ratings` is both the start and the result; entries of others are left alone.
/// Allocates nothing after a thread's first call of this size.
void fit_ratings_newton(const WinTable& wins, std::span<const std::size_t> members, std::size_t anchor,
                        std::span<double> ratings);

/// The ratings at which scikit-learn's LogisticRegression stops on the same battles (lbfgs from zero: gradient 1e-4,
/// 64 epsilons of the loss, 100 iterations, 50 steps a search), on the loss divided by the weights' sum. RouteLLM's own
/// answers come from there. `anchor` (or players() for none) keeps the rating 0.
void fit_ratings_lbfgs(const WinTable& wins, std::size_t anchor, std::span<double> ratings);

/// 1 / (1 + 10^(weak - strong)).
[[nodiscard]] double win_rate_of(double strong_rating, double weak_rating) noexcept;

/// RouteLLM's tiers: the split of the sorted ratings into num_tiers intervals with the smallest sum of variances, the
/// first of equals, by dynamic programming. A single model has no variance at any number of tiers, so that tiers may
/// stay empty. `descending` must be sorted; returns a tier for each, 0 for the best. Source: RouteLLM's compute_tiers.
[[nodiscard]] std::vector<std::size_t> split_tiers(std::span<const double> descending, std::size_t num_tiers);

}  // namespace routellm_fast
