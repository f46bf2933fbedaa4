#include "score/tier_refit.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace routellm_fast {
namespace {

void fill(WinTable& wins, std::span<const Cell> cells, std::span<const double> sums) {
  wins.clear();
  for (std::size_t c = 0; c < cells.size(); ++c) {
    add_battle(wins, cells[c].side_a, cells[c].side_b, cells[c].outcome, sums[c]);
  }
  wins.normalize();
}

}  // namespace

TierRefit::TierRefit(std::size_t num_tiers, std::vector<Cell> cells, std::size_t strong_tier, std::size_t weak_tier,
                     RefitSolver solver)
    : num_tiers_(num_tiers),
      cells_(std::move(cells)),
      strong_tier_(strong_tier),
      weak_tier_(weak_tier),
      solver_(solver),
      start_(num_tiers + 1, 0.0) {
  const auto out_of_range = [&](std::size_t side) { return side > num_tiers_; };
  if (strong_tier >= num_tiers || weak_tier >= num_tiers || std::ranges::any_of(cells_, [&](const Cell& cell) {
        return out_of_range(cell.side_a) || out_of_range(cell.side_b) || cell.side_a == cell.side_b;
      })) {
    throw Error(ErrorCode::kInvalidArgument,
                "a cell or a model belongs to a tier outside 0 to " + std::to_string(num_tiers - 1) + ".");
  }
  std::vector<double> counts(cells_.size());
  std::ranges::transform(cells_, counts.begin(), [](const Cell& cell) { return cell.battles; });
  WinTable wins(num_tiers_ + 1);
  fill(wins, cells_, counts);
  const std::vector<std::size_t> groups = comparable_groups(wins);
  for (std::size_t player = 0; player <= num_tiers_; ++player) {
    if (groups[player] == groups[strong_tier_]) members_.push_back(player);
  }
  if (solver_ == RefitSolver::kExact) {
    if (groups[strong_tier_] != groups[weak_tier_]) {
      throw Error(ErrorCode::kInvalidArgument,
                  "tier " + std::to_string(strong_tier_) + " of the strong model and tier " +
                      std::to_string(weak_tier_) +
                      " of the weak one have no finite rating difference: no chain of battles has each of them both "
                      "win and lose against the other. Add battles, use fewer tiers, or take solver=\"routellm\", "
                      "which stops at a finite one.");
    }
    fit_ratings_newton(wins, members_, num_tiers_, start_);
  }
}

void TierRefit::fit(std::span<const double> cell_sums, std::span<double> ratings) const {
  thread_local WinTable wins(0);
  if (wins.players() != num_tiers_ + 1) wins = WinTable(num_tiers_ + 1);
  fill(wins, cells_, cell_sums);
  if (solver_ == RefitSolver::kRouteLlm) {
    fit_ratings_lbfgs(wins, num_tiers_, ratings);
  } else {
    std::ranges::copy(start_, ratings.begin());
    fit_ratings_newton(wins, members_, num_tiers_, ratings);
  }
}

double TierRefit::win_rate(std::span<const double> cell_sums) const {
  if (strong_tier_ == weak_tier_) return 0.5;
  thread_local std::vector<double> ratings;
  ratings.resize(num_tiers_ + 1);
  fit(cell_sums, ratings);
  return win_rate_of(ratings[strong_tier_], ratings[weak_tier_]);
}

void TierRefit::ratings(std::span<const double> cell_sums, std::span<double> out) const {
  thread_local std::vector<double> ratings;
  ratings.resize(num_tiers_ + 1);
  fit(cell_sums, ratings);
  std::copy_n(ratings.begin(), num_tiers_, out.begin());
  if (solver_ == RefitSolver::kRouteLlm) return;
  for (std::size_t tier = 0; tier < num_tiers_; ++tier) {
    if (std::ranges::find(members_, tier) == members_.end()) {
      out[tier] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace routellm_fast
