// Battles of any weight: a table of wins between a few players is solved in both ways, split into tiers, and refitted
// under other weights. The first bytes choose sizes and solver. Whatever the weights, a win rate is in [0, 1].

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/error.hpp"
#include "score/bradley_terry.hpp"
#include "score/tier_refit.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::Cell;
using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::Outcome;
using routellm_fast::RefitSolver;
using routellm_fast::WinTable;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

// Directories hold cells of 1 to 2^53 battles, and weights are at least 2^-1000: kernels see to that.
constexpr double kLeastBattles = 1.0;
constexpr double kLeastWeight = 0x1p-1000;

double read_weight(Script& script, double least) {
  const double value = std::abs(script.float64());
  return std::isfinite(value) ? std::clamp(value, least, 0x1p53) : 1.0;
}

void check_groups(const WinTable& wins, const std::vector<std::size_t>& groups) {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    require(groups[i] <= i, "a group has the number of its first player");
    require(groups[groups[i]] == groups[i], "a group's first player belongs to it");
    for (std::size_t j = 0; j < i; ++j) {
      const bool both = wins.at(i, j) > 0.0 && wins.at(j, i) > 0.0;
      require(!both || groups[i] == groups[j], "players that beat each other are of one group");
    }
  }
}

void check_win_rate(double strong, double weak) {
  const double rate = routellm_fast::win_rate_of(strong, weak);
  require(rate >= 0.0 && rate <= 1.0, "a win rate lies in [0, 1]");
}

void fit(const WinTable& given) {
  WinTable wins = given;
  const std::vector<std::size_t> groups = routellm_fast::comparable_groups(wins);
  check_groups(wins, groups);
  wins.normalize();
  const std::size_t anchor = wins.players() - 1;
  std::vector<std::size_t> members;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] == groups[0]) members.push_back(i);
  }
  std::vector<double> ratings(wins.players(), 0.0);
  routellm_fast::fit_ratings_newton(wins, members, anchor, ratings);
  for (const double rating : ratings) require(std::isfinite(rating), "a rating is a number");
  for (const std::size_t member : members) check_win_rate(ratings[member], ratings[members.front()]);
  routellm_fast::fit_ratings_lbfgs(wins, anchor, ratings);
  for (const double rating : ratings) require(std::isfinite(rating), "a rating is a number");
  check_win_rate(ratings.front(), ratings.back());
}

void split(std::vector<double> ratings, std::size_t num_tiers) {
  std::ranges::sort(ratings, std::greater{});
  const std::vector<std::size_t> tiers = routellm_fast::split_tiers(ratings, num_tiers);
  require(tiers.size() == ratings.size(), "each model has a tier");
  require(std::ranges::is_sorted(tiers), "a better model has no worse tier");
  require(tiers.empty() || tiers.back() < num_tiers, "a tier is one of those there are");
}

void refit(std::size_t num_tiers, const std::vector<Cell>& cells, Script& script) {
  const auto solver = script.flag() ? RefitSolver::kExact : RefitSolver::kRouteLlm;
  const std::size_t strong = script.below(num_tiers + 1);
  const std::size_t weak = script.below(num_tiers + 1);
  const routellm_fast::TierRefit refit(num_tiers, cells, strong, weak, solver);
  std::vector<double> ratings(num_tiers);
  std::vector<double> sums(cells.size());
  for (int query = 0; query < 2; ++query) {
    for (double& sum : sums) sum = script.is_over() ? 1.0 : read_weight(script, kLeastWeight);
    const double rate = refit.win_rate(sums);
    require(rate >= 0.0 && rate <= 1.0, "a win rate lies in [0, 1]");
    require(refit.win_rate(sums) == rate, "a win rate depends on its query alone");
    refit.ratings(sums, ratings);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const std::size_t tiers = 1 + script.byte() % 6U;
  const std::size_t count = script.byte() % 24U;
  WinTable wins(tiers + 1);
  std::vector<Cell> cells;
  std::vector<double> ratings;
  for (std::size_t k = 0; k < count; ++k) {
    const auto side_a = static_cast<std::uint16_t>(script.below(tiers + 1));
    const auto side_b = static_cast<std::uint16_t>(script.below(tiers + 1));
    const auto outcome = static_cast<Outcome>(script.byte() % 3U);
    cells.push_back({side_a, side_b, outcome, read_weight(script, kLeastBattles)});
    if (side_a != side_b) routellm_fast::add_battle(wins, side_a, side_b, outcome, cells.back().battles);
    ratings.push_back(cells.back().battles);
  }
  try {
    fit(wins);
    split(ratings, script.byte() % 8U);
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kInvalidArgument, "what is refused is refused by name");
  }
  try {
    refit(tiers, cells, script);
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kInvalidArgument, "what is refused is refused by name");
  }
  return 0;
}
