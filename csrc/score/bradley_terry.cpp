#include "score/bradley_terry.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <string>

#include "base/error.hpp"
#include "score/lbfgs.hpp"

namespace routellm_fast {
namespace {

constexpr int kMaxNewtonSteps = 1000;
constexpr double kNewtonTolerance = 1e-13;
// A step to where a probability rounds to 1 would lose the curvature that leads back.
constexpr double kLongestNewtonStep = 4.0;
// Far from the minimum of a steep logistic every step is near 1: shorter ones that do not shrink are rounding.
constexpr double kShortNewtonStep = 0.1;
constexpr double kLossRounding = 1e-13;  // of the loss: a smaller decrease does not show in it

// log(1 + e^x), without overflow.
double softplus(double x) noexcept { return x > 0.0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

double logistic(double x) noexcept {
  if (x >= 0.0) return 1.0 / (1.0 + std::exp(-x));
  const double e = std::exp(x);
  return e / (1.0 + e);
}

// The loss sum of wins(i, j) * log(1 + 10^(r_j - r_i)) over the members; ratings here are natural: r ln 10.
double loss(const WinTable& wins, std::span<const std::size_t> members, std::span<const double> natural) {
  double sum = 0.0;
  for (std::size_t p = 0; p < members.size(); ++p) {
    for (std::size_t q = 0; q < members.size(); ++q) {
      const double weight = p == q ? 0.0 : wins.at(members[p], members[q]);
      if (weight > 0.0) sum += weight * softplus(natural[q] - natural[p]);
    }
  }
  return sum;
}

// Solves A x = b in place for a symmetric positive definite A of n rows; false when it is not definite.
bool solve_cholesky(std::span<double> a, std::span<double> b, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    double pivot = a[j * n + j];
    for (std::size_t k = 0; k < j; ++k) pivot -= a[j * n + k] * a[j * n + k];
    if (!(pivot > 0.0)) return false;
    a[j * n + j] = std::sqrt(pivot);
    for (std::size_t i = j + 1; i < n; ++i) {
      double value = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) value -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = value / a[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return true;
}

}  // namespace

double WinTable::total() const noexcept { return std::accumulate(wins_.begin(), wins_.end(), 0.0); }

void WinTable::clear() noexcept { std::ranges::fill(wins_, 0.0); }

void WinTable::normalize() noexcept {
  const double sum = total();
  if (sum > 0.0) {
    for (double& value : wins_) value /= sum;
  }
}

void add_battle(WinTable& wins, std::size_t side_a, std::size_t side_b, Outcome outcome, double weight) noexcept {
  if (outcome == Outcome::kTie) {
    wins.at(side_a, side_b) += weight;
    wins.at(side_b, side_a) += weight;
  } else if (outcome == Outcome::kA) {
    wins.at(side_a, side_b) += 2.0 * weight;
  } else {
    wins.at(side_b, side_a) += 2.0 * weight;
  }
}

void add_battles(WinTable& wins, std::span<const std::uint16_t> side_a, std::span<const std::uint16_t> side_b,
                 std::span<const Outcome> outcomes) {
  const std::size_t anchor = wins.players() - 1;
  for (std::size_t k = 0; k < outcomes.size(); ++k) {
    if (side_a[k] >= anchor || side_b[k] >= anchor) {
      throw Error(ErrorCode::kInvalidArgument,
                  "battle " + std::to_string(k) + " has a player outside 0 to " + std::to_string(anchor - 1) + ".");
    }
    add_battle(wins, side_a[k] == side_b[k] ? anchor : side_a[k], side_b[k], outcomes[k], 1.0);
  }
}

std::vector<std::size_t> comparable_groups(const WinTable& wins) {
  // With some dozens of players the transitive closure is the simplest correct way.
  const std::size_t n = wins.players();
  std::vector<std::vector<bool>> beats(n, std::vector<bool>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) beats[i][j] = i == j || wins.at(i, j) > 0.0;
  }
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; beats[i][k] && j < n; ++j) beats[i][j] = beats[i][j] || beats[k][j];
    }
  }
  std::vector<std::size_t> group(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      if (beats[i][j] && beats[j][i]) {
        group[i] = j;
        break;
      }
    }
  }
  return group;
}

void fit_ratings_newton(const WinTable& wins, std::span<const std::size_t> members, std::size_t anchor,
                        std::span<double> ratings) {
  const std::size_t n = members.size();
  const auto anchored = std::ranges::find(members, anchor);
  const bool has_anchor = anchored != members.end();
  // Differences alone are determined: one member stands still, the anchor or else the last.
  const std::size_t fixed = has_anchor ? static_cast<std::size_t>(anchored - members.begin()) : n - 1;

  thread_local std::vector<double> workspace;
  workspace.resize(n * (n + 4));
  const std::span<double> natural(workspace.data(), n);
  const std::span<double> trial(natural.data() + n, n);
  const std::span<double> gradient(trial.data() + n, n);
  const std::span<double> step(gradient.data() + n, n);
  const std::span<double> hessian(step.data() + n, n * n);

  const double origin = has_anchor ? 0.0 : ratings[members[fixed]];
  for (std::size_t p = 0; p < n; ++p) natural[p] = (ratings[members[p]] - origin) * std::numbers::ln10;
  natural[fixed] = 0.0;

  double value = loss(wins, members, natural);
  double previous_longest = std::numeric_limits<double>::infinity();
  for (int iteration = 0; iteration < kMaxNewtonSteps; ++iteration) {
    std::ranges::fill(gradient, 0.0);
    std::ranges::fill(hessian, 0.0);
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        const double up = wins.at(members[p], members[q]);
        const double down = wins.at(members[q], members[p]);
        if (up + down == 0.0) continue;
        // Both from one exponential: near 1, 1 - win would keep no digits.
        const double odds = std::exp(-std::abs(natural[p] - natural[q]));
        const double likely = 1.0 / (1.0 + odds);
        const double unlikely = odds * likely;
        const double win = natural[p] >= natural[q] ? likely : unlikely;
        const double lose = natural[p] >= natural[q] ? unlikely : likely;
        const double slope = down * win - up * lose;
        const double curvature = (up + down) * win * lose;
        gradient[p] += slope;
        gradient[q] -= slope;
        hessian[p * n + p] += curvature;
        hessian[q * n + q] += curvature;
        hessian[p * n + q] -= curvature;
        hessian[q * n + p] -= curvature;
      }
    }
    for (std::size_t p = 0; p < n; ++p) {
      hessian[fixed * n + p] = 0.0;
      hessian[p * n + fixed] = 0.0;
      step[p] = -gradient[p];
    }
    hessian[fixed * n + fixed] = 1.0;
    step[fixed] = 0.0;
    if (!solve_cholesky(hessian, step, n)) break;
    double longest = 0.0;
    for (const double s : step) longest = std::max(longest, std::abs(s));
    const double decrease = -0.5 * std::inner_product(gradient.begin(), gradient.end(), step.begin(), 0.0);
    const bool rounding_decides = decrease <= kLossRounding * value;
    if (rounding_decides && longest < kShortNewtonStep && longest >= previous_longest) break;
    previous_longest = longest;
    // The loss is convex: a full step that does not lower it was too long. Near the minimum rounding decides, and the
    // full step is right.
    double share = std::min(1.0, kLongestNewtonStep / longest);
    for (int halving = 0; halving < 30; ++halving, share *= 0.5) {
      for (std::size_t p = 0; p < n; ++p) trial[p] = natural[p] + share * step[p];
      const double found = loss(wins, members, trial);
      if (found < value || rounding_decides) {
        value = found;
        break;
      }
    }
    std::ranges::copy(trial, natural.begin());
    if (longest < kNewtonTolerance) break;
  }
  const double mean = has_anchor ? 0.0 : std::accumulate(natural.begin(), natural.end(), 0.0) / static_cast<double>(n);
  for (std::size_t p = 0; p < n; ++p) ratings[members[p]] = (natural[p] - mean) / std::numbers::ln10;
}

void fit_ratings_lbfgs(const WinTable& wins, std::size_t anchor, std::span<double> ratings) {
  const std::size_t players = wins.players();
  struct Pair {
    std::size_t winner;
    std::size_t loser;
    double weight;
  };
  std::vector<Pair> pairs;
  const double total = wins.total();
  for (std::size_t i = 0; i < players; ++i) {
    for (std::size_t j = 0; j < players; ++j) {
      if (wins.at(i, j) > 0.0) pairs.push_back({i, j, wins.at(i, j) / total});
    }
  }
  const auto objective = [&](std::span<const double> x, std::span<double> gradient) {
    std::ranges::fill(gradient, 0.0);
    double sum = 0.0;
    for (const Pair& pair : pairs) {
      const double margin = std::numbers::ln10 * (x[pair.winner] - x[pair.loser]);
      sum += pair.weight * softplus(-margin);
      const double slope = -pair.weight * logistic(-margin) * std::numbers::ln10;
      gradient[pair.winner] += slope;
      gradient[pair.loser] -= slope;
    }
    if (anchor < players) gradient[anchor] = 0.0;
    return sum;
  };
  std::ranges::fill(ratings, 0.0);
  minimize_lbfgs(objective, ratings);
}

double win_rate_of(double strong_rating, double weak_rating) noexcept {
  return logistic((strong_rating - weak_rating) * std::numbers::ln10);
}

std::vector<std::size_t> split_tiers(std::span<const double> descending, std::size_t num_tiers) {
  const std::size_t n = descending.size();
  if (num_tiers == 0) throw Error(ErrorCode::kInvalidArgument, "models are split into at least one tier, found 0.");
  if (n == 0) return {};
  const auto variance = [&](std::size_t first, std::size_t last) {
    const auto count = static_cast<double>(last - first + 1);
    double mean = 0.0;
    for (std::size_t k = first; k <= last; ++k) mean += descending[k];
    mean /= count;
    double sum = 0.0;
    for (std::size_t k = first; k <= last; ++k) sum += (descending[k] - mean) * (descending[k] - mean);
    return sum / count;
  };
  // cost[t][j]: the least sum of variances of models 0..j in t + 1 tiers; split[t][j]: the last model before the last
  // tier. Only prefixes matter, since the last tier is always one interval.
  std::vector<std::vector<double>> cost(num_tiers, std::vector<double>(n, 0.0));
  std::vector<std::vector<std::size_t>> split(num_tiers, std::vector<std::size_t>(n, 0));
  for (std::size_t j = 1; j < n; ++j) cost[0][j] = variance(0, j);
  for (std::size_t tier = 1; tier < num_tiers; ++tier) {
    for (std::size_t j = 1; j < n; ++j) {
      cost[tier][j] = std::numeric_limits<double>::infinity();
      for (std::size_t l = 0; l < j; ++l) {
        const double rest = l + 1 == j ? 0.0 : variance(l + 1, j);
        if (cost[tier][j] > cost[tier - 1][l] + rest) {
          cost[tier][j] = cost[tier - 1][l] + rest;
          split[tier][j] = l;
        }
      }
    }
  }
  std::vector<std::size_t> tiers(n, 0);
  std::size_t end = n;
  for (std::size_t tier = num_tiers; tier-- > 0;) {
    const std::size_t begin = tier == 0 ? 0 : split[tier][end - 1] + 1;
    for (std::size_t k = begin; k < end; ++k) tiers[k] = tier;
    end = std::min(end, begin);
  }
  return tiers;
}

}  // namespace routellm_fast
