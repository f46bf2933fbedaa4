#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "score/bradley_terry.hpp"
#include "score/tier_refit.hpp"

namespace routellm_fast {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::size_t> all_players(const WinTable& wins) {
  std::vector<std::size_t> players(wins.players());
  std::iota(players.begin(), players.end(), std::size_t{0});
  return players;
}

// About `share` of the pairs met, with weights of a few orders of magnitude; at 1 every player beat every other one.
WinTable random_table(std::mt19937& rng, std::size_t players, double share) {
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  WinTable wins(players);
  for (std::size_t i = 0; i < players; ++i) {
    for (std::size_t j = 0; j < players; ++j) {
      if (i != j && uniform(rng) < share) wins.at(i, j) = std::pow(10.0, 4.0 * uniform(rng) - 2.0);
    }
  }
  return wins;
}

double loss_of(const WinTable& wins, const std::vector<double>& ratings) {
  double sum = 0.0;
  for (std::size_t i = 0; i < wins.players(); ++i) {
    for (std::size_t j = 0; j < wins.players(); ++j) {
      if (i != j) sum += wins.at(i, j) * std::log1p(std::pow(10.0, ratings[j] - ratings[i]));
    }
  }
  return sum / wins.total();
}

// The largest derivative of the loss, with weights of sum 1, by a rating other than `anchor`.
double largest_slope(const WinTable& wins, std::size_t anchor, const std::vector<double>& ratings) {
  double largest = 0.0;
  for (std::size_t i = 0; i < wins.players(); ++i) {
    double slope = 0.0;
    for (std::size_t j = 0; j < wins.players(); ++j) {
      if (i == j) continue;
      const double beaten = 1.0 / (1.0 + std::pow(10.0, ratings[i] - ratings[j]));
      slope += wins.at(j, i) * (1.0 - beaten) - wins.at(i, j) * beaten;
    }
    if (i != anchor) largest = std::max(largest, std::abs(slope));
  }
  return largest * std::numbers::ln10 / wins.total();
}

TEST_CASE("a win counts twice what a tie gives each side, and a table normalises to a sum of one") {
  WinTable wins(3);
  add_battle(wins, 0, 1, Outcome::kA, 3.0);
  add_battle(wins, 0, 1, Outcome::kB, 0.5);
  add_battle(wins, 2, 1, Outcome::kTie, 1.5);
  CHECK(wins.at(0, 1) == 6.0);
  CHECK(wins.at(1, 0) == 1.0);
  CHECK(wins.at(1, 2) == 1.5);
  CHECK(wins.at(2, 1) == 1.5);
  CHECK(wins.total() == 10.0);
  wins.normalize();
  CHECK(wins.at(0, 1) == doctest::Approx(0.6));
  CHECK(wins.total() == doctest::Approx(1.0));
  wins.clear();
  wins.normalize();
  CHECK(wins.total() == 0.0);
}

TEST_CASE("a battle of a player with itself is one of the anchor against it") {
  WinTable wins(3);
  const std::vector<std::uint16_t> a{0, 1, 1};
  const std::vector<std::uint16_t> b{1, 1, 1};
  add_battles(wins, a, b, std::vector<Outcome>{Outcome::kA, Outcome::kA, Outcome::kTie});
  CHECK(wins.at(0, 1) == 2.0);
  CHECK(wins.at(2, 1) == 3.0);
  CHECK(wins.at(1, 2) == 1.0);
  CHECK(wins.at(1, 1) == 0.0);
  for (const std::uint16_t outside : {std::uint16_t{2}, std::uint16_t{60'000}}) {
    const std::vector<std::uint16_t> bad{0, outside, 0};
    const std::vector<Outcome> outcomes(3, Outcome::kTie);
    CHECK_THROWS_WITH_AS(add_battles(wins, bad, b, outcomes), doctest::Contains("battle 1"), Error);
    CHECK_THROWS_WITH_AS(add_battles(wins, a, bad, outcomes), doctest::Contains("battle 1"), Error);
  }
}

TEST_CASE("players are comparable where each beat the other, perhaps through others") {
  using Groups = std::vector<std::size_t>;
  WinTable chain(4);
  chain.at(0, 1) = chain.at(1, 2) = chain.at(2, 3) = 1.0;
  CHECK(comparable_groups(chain) == Groups{0, 1, 2, 3});

  WinTable cycle = chain;
  cycle.at(3, 1) = 1e-300;  // only the sign of an entry matters
  CHECK(comparable_groups(cycle) == Groups{0, 1, 1, 1});
  cycle.at(3, 0) = 1.0;
  CHECK(comparable_groups(cycle) == Groups{0, 0, 0, 0});

  WinTable tied(5);
  add_battle(tied, 1, 3, Outcome::kTie, 1.0);
  add_battle(tied, 4, 0, Outcome::kTie, 1.0);
  CHECK(comparable_groups(tied) == Groups{0, 1, 2, 1, 0});
  CHECK(comparable_groups(WinTable(3)) == Groups{0, 1, 2});
  CHECK(comparable_groups(WinTable(0)).empty());
}

TEST_CASE("groups are those of a plain search for chains of wins") {
  std::mt19937 rng(3);
  for (int round = 0; round < 200; ++round) {
    const WinTable wins = random_table(rng, 7, 0.2);
    std::vector<std::vector<bool>> reaches(7, std::vector<bool>(7));
    for (std::size_t from = 0; from < 7; ++from) {
      std::vector<std::size_t> open{from};
      reaches[from][from] = true;
      while (!open.empty()) {
        const std::size_t at = open.back();
        open.pop_back();
        for (std::size_t to = 0; to < 7; ++to) {
          if (wins.at(at, to) == 0.0 || reaches[from][to]) continue;
          reaches[from][to] = true;
          open.push_back(to);
        }
      }
    }
    const std::vector<std::size_t> groups = comparable_groups(wins);
    for (std::size_t i = 0; i < 7; ++i) {
      for (std::size_t j = 0; j < 7; ++j) REQUIRE((groups[i] == groups[j]) == (reaches[i][j] && reaches[j][i]));
    }
  }
}

TEST_CASE("two players' ratings differ by the logarithm of their odds") {
  const std::vector<std::size_t> both{0, 1};
  for (const double odds : {1.0, 3.0, 0.01, 1e6, 1e-9}) {
    CAPTURE(odds);
    for (const double scale : {1.0, 1e-200, 1e200}) {
      WinTable wins(2);
      wins.at(0, 1) = odds * scale;
      wins.at(1, 0) = scale;
      std::vector<double> ratings{0.0, 0.0};
      fit_ratings_newton(wins, both, 2, ratings);
      CHECK(ratings[0] - ratings[1] == doctest::Approx(std::log10(odds)).epsilon(1e-6));
      CHECK(std::abs(ratings[0] + ratings[1]) < 1e-12);
      CHECK(win_rate_of(ratings[0], ratings[1]) == doctest::Approx(odds / (1.0 + odds)).epsilon(1e-9));
      fit_ratings_newton(wins, both, 0, ratings);
      CHECK(ratings[0] == 0.0);
      CHECK(-ratings[1] == doctest::Approx(std::log10(odds)).epsilon(1e-6));
    }
  }
}

TEST_CASE("Newton's ratings are those where the gradient vanishes, whatever the start, the anchor and the scale") {
  std::mt19937 rng(5);
  std::normal_distribution<double> normal;
  for (const std::size_t players : {2U, 3U, 11U, 40U}) {
    for (const double share : {0.35, 1.0}) {
      CAPTURE(players);
      CAPTURE(share);
      WinTable wins = random_table(rng, players, share);
      // A cycle of wins makes everybody comparable.
      for (std::size_t i = 0; i < players; ++i) wins.at(i, (i + 1) % players) += 0.1;
      const std::vector<std::size_t> members = all_players(wins);
      std::vector<double> free(players);
      for (double& rating : free) rating = normal(rng);
      fit_ratings_newton(wins, members, players, free);
      CHECK(largest_slope(wins, players, free) < 1e-12);
      CHECK(std::abs(std::accumulate(free.begin(), free.end(), 0.0)) < 1e-9);
      const double least = loss_of(wins, free);
      for (int trial = 0; trial < 20; ++trial) {
        std::vector<double> moved = free;
        for (double& rating : moved) rating += 0.01 * normal(rng);
        CHECK(loss_of(wins, moved) > least);
      }
      wins.normalize();
      for (const std::size_t anchor : {std::size_t{0}, players - 1}) {
        std::vector<double> anchored(players, 0.0);
        fit_ratings_newton(wins, members, anchor, anchored);
        CHECK(anchored[anchor] == 0.0);
        for (std::size_t i = 0; i < players; ++i) {
          CHECK(anchored[i] == doctest::Approx(free[i] - free[anchor]).epsilon(1e-9));
        }
      }
    }
  }
}

TEST_CASE("Newton leaves players outside its group alone") {
  WinTable wins(5);
  add_battle(wins, 1, 3, Outcome::kA, 1.0);
  add_battle(wins, 1, 3, Outcome::kTie, 1.0);
  add_battle(wins, 0, 1, Outcome::kA, 9.0);  // one-sided: 0 is not comparable
  std::vector<double> ratings{7.0, 5.0, kNan, 4.0, -7.0};
  fit_ratings_newton(wins, std::vector<std::size_t>{1, 3}, 4, ratings);
  CHECK(ratings[0] == 7.0);
  CHECK(std::isnan(ratings[2]));
  CHECK(ratings[4] == -7.0);
  CHECK(ratings[1] - ratings[3] == doctest::Approx(std::log10(3.0)));
  std::vector<double> alone{3.0};
  fit_ratings_newton(WinTable(1), std::vector<std::size_t>{0}, 0, alone);
  CHECK(alone[0] == 0.0);
}

TEST_CASE("weights hundreds of orders of magnitude apart have ratings hundreds apart") {
  for (const double odds_of_0 : {1e5, 1e17, 1e40, 1e290}) {
    for (const double odds_of_1 : {1e-3, 1e14, 1e38, 1e280}) {
      CAPTURE(odds_of_0);
      CAPTURE(odds_of_1);
      WinTable star(3);  // the first two met only the third
      star.at(0, 2) = 1.0;
      star.at(2, 0) = 1.0 / odds_of_0;
      star.at(1, 2) = 1.0;
      star.at(2, 1) = 1.0 / odds_of_1;
      star.normalize();
      std::vector<double> ratings(3, 0.0);
      fit_ratings_newton(star, all_players(star), 2, ratings);
      CHECK(ratings[0] == doctest::Approx(std::log10(odds_of_0)).epsilon(1e-9));
      CHECK(ratings[1] == doctest::Approx(std::log10(odds_of_1)).epsilon(1e-9));
    }
  }
  for (const double tiny : {1e-20, 1e-100, 1e-300}) {
    WinTable pairs(4);  // two pairs that hardly ever met
    pairs.at(0, 1) = 3.0;
    pairs.at(1, 0) = 1.0;
    pairs.at(2, 3) = 1.0;
    pairs.at(3, 2) = 1.0;
    pairs.at(1, 2) = pairs.at(2, 1) = tiny;
    std::vector<double> ratings(4, 0.0);
    fit_ratings_newton(pairs, all_players(pairs), 0, ratings);
    for (const double rating : ratings) CHECK(std::isfinite(rating));
  }
}

TEST_CASE("a start far from sparse battles of very different weights does not mislead Newton") {
  // A query's refit starts from the ratings of equal weights, wherever its own weights put the ratings.
  std::mt19937 rng(6);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  for (int round = 0; round < 200; ++round) {
    WinTable equal = random_table(rng, 11, 0.2);
    for (std::size_t i = 0; i < 11; ++i) equal.at(i, (i + 1) % 11) += 0.1;
    std::vector<double> ratings(11, 0.0);
    fit_ratings_newton(equal, all_players(equal), 10, ratings);
    WinTable weighted = equal;
    for (std::size_t i = 0; i < 11; ++i) {
      for (std::size_t j = 0; j < 11; ++j) weighted.at(i, j) *= std::pow(10.0, 8.0 * uniform(rng));
    }
    fit_ratings_newton(weighted, all_players(weighted), 10, ratings);
    CHECK(largest_slope(weighted, 10, ratings) < 1e-12);
  }
}

TEST_CASE("a win rate is a logistic curve of base ten that never overflows") {
  CHECK(win_rate_of(1.0, 1.0) == 0.5);
  CHECK(win_rate_of(1.0, 0.0) == doctest::Approx(10.0 / 11.0));
  CHECK(win_rate_of(1e6, -1e6) == 1.0);
  CHECK(win_rate_of(-1e6, 1e6) == 0.0);
}

TEST_CASE("the original's solver stops near Newton's ratings, and at finite ones where those do not exist") {
  std::mt19937 rng(7);
  for (int round = 0; round < 20; ++round) {
    WinTable wins = random_table(rng, 11, 1.0);
    for (const std::size_t anchor : {std::size_t{10}, wins.players()}) {
      std::vector<double> stopped(11, kNan);
      fit_ratings_lbfgs(wins, anchor, stopped);
      CHECK(largest_slope(wins, anchor, stopped) <= 1.0001e-4);
      if (anchor < stopped.size()) CHECK(stopped[anchor] == 0.0);
      const std::vector<double> once = stopped;
      wins.normalize();  // the loss is divided by the weights' sum anyway
      fit_ratings_lbfgs(wins, anchor, stopped);
      for (std::size_t i = 0; i < 11; ++i) CHECK(std::abs(stopped[i] - once[i]) < 1e-9);
    }
  }
  WinTable one_sided(3);
  add_battle(one_sided, 0, 1, Outcome::kA, 1.0);
  std::vector<double> ratings(3, kNan);
  fit_ratings_lbfgs(one_sided, 2, ratings);
  CHECK(ratings[0] > ratings[1]);
  CHECK(std::isfinite(ratings[0]));
  CHECK(ratings[2] == 0.0);
  fit_ratings_lbfgs(WinTable(3), 2, ratings);
  CHECK(ratings == std::vector<double>(3, 0.0));
}

double variance_of(const std::vector<double>& values, std::size_t begin, std::size_t end) {
  const auto count = static_cast<double>(end - begin);
  const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = values.begin() + static_cast<std::ptrdiff_t>(end);
  const double mean = std::accumulate(first, last, 0.0) / count;
  return std::accumulate(first, last, 0.0, [&](double sum, double v) { return sum + (v - mean) * (v - mean); }) / count;
}

double cost_of(const std::vector<double>& values, const std::vector<std::size_t>& tiers) {
  double cost = 0.0;
  for (std::size_t begin = 0; begin < values.size();) {
    std::size_t end = begin;
    while (end < values.size() && tiers[end] == tiers[begin]) ++end;
    cost += variance_of(values, begin, end);
    begin = end;
  }
  return cost;
}

// The least cost over every way to cut: each bit of `cuts` is a border. Fewer intervals than tiers are allowed where
// the first interval is one model, which has no variance at any number of tiers.
double least_cost(const std::vector<double>& values, std::size_t num_tiers) {
  double least = std::numeric_limits<double>::infinity();
  for (std::uint32_t cuts = 0; cuts < (1U << (values.size() - 1)); ++cuts) {
    std::vector<std::size_t> tiers(values.size(), 0);
    for (std::size_t k = 1; k < values.size(); ++k) tiers[k] = tiers[k - 1] + ((cuts >> (k - 1)) & 1U);
    const std::size_t intervals = tiers.back() + 1;
    const bool first_is_single = values.size() == 1 || (cuts & 1U) != 0;
    if (intervals == num_tiers || (intervals < num_tiers && first_is_single)) {
      least = std::min(least, cost_of(values, tiers));
    }
  }
  return least;
}

TEST_CASE("tiers are the cheapest of all cuts") {
  std::mt19937 rng(11);
  std::normal_distribution<double> normal(1000.0, 100.0);
  for (std::size_t models = 1; models <= 9; ++models) {
    for (std::size_t num_tiers = 1; num_tiers <= 12; ++num_tiers) {
      for (int round = 0; round < 6; ++round) {
        CAPTURE(models);
        CAPTURE(num_tiers);
        std::vector<double> ratings(models);
        for (double& rating : ratings) rating = round == 5 ? std::round(normal(rng) / 100.0) : normal(rng);
        std::ranges::sort(ratings, std::greater{});
        const std::vector<std::size_t> tiers = split_tiers(ratings, num_tiers);
        REQUIRE(tiers.size() == models);
        CHECK(tiers.front() == 0);
        CHECK(tiers.back() < num_tiers);
        CHECK(std::ranges::is_sorted(tiers));
        CHECK(cost_of(ratings, tiers) == doctest::Approx(least_cost(ratings, num_tiers)).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("equal ratings, more tiers than models, and no models have defined tiers") {
  using Tiers = std::vector<std::size_t>;
  CHECK(split_tiers({}, 10).empty());
  CHECK(split_tiers(std::vector<double>{5.0}, 10) == Tiers{0});
  CHECK(split_tiers(std::vector<double>{3.0, 2.0, 1.0}, 10) == Tiers{0, 8, 9});
  CHECK(split_tiers(std::vector<double>{9.0, 9.0, 1.0, 1.0}, 2) == Tiers{0, 0, 1, 1});
  // All cuts cost the same: the first is taken.
  CHECK(split_tiers(std::vector<double>(4, 2.0), 3) == Tiers{0, 2, 2, 2});
}

// Every pair of tiers in every outcome, all weighing alike.
std::vector<Cell> round_robin(std::uint16_t num_tiers) {
  std::vector<Cell> cells;
  for (std::uint16_t a = 0; a < num_tiers; ++a) {
    for (std::uint16_t b = 0; b < a; ++b) {
      for (const Outcome outcome : {Outcome::kA, Outcome::kB, Outcome::kTie}) cells.push_back({a, b, outcome, 2.0});
    }
  }
  return cells;
}

TEST_CASE("a refit is the weighted Bradley-Terry fit of its cells") {
  constexpr std::size_t kTiers = 5;
  std::vector<Cell> cells = round_robin(kTiers);
  cells.push_back({kTiers, 1, Outcome::kA, 1.0});  // battles inside a tier, as RouteLLM keeps them
  cells.push_back({kTiers, 1, Outcome::kB, 1.0});
  std::mt19937 rng(13);
  std::uniform_real_distribution<double> uniform(0.1, 10.0);
  for (const RefitSolver solver : {RefitSolver::kExact, RefitSolver::kRouteLlm}) {
    const TierRefit refit(kTiers, cells, 0, 3, solver);
    for (int round = 0; round < 20; ++round) {
      std::vector<double> sums(cells.size());
      for (double& sum : sums) sum = uniform(rng);
      WinTable wins(kTiers + 1);
      for (std::size_t c = 0; c < cells.size(); ++c) {
        add_battle(wins, cells[c].side_a, cells[c].side_b, cells[c].outcome, sums[c]);
      }
      std::vector<double> ratings(kTiers);
      refit.ratings(sums, ratings);
      std::vector<double> with_anchor = ratings;
      with_anchor.push_back(0.0);
      CHECK(largest_slope(wins, kTiers, with_anchor) < (solver == RefitSolver::kExact ? 1e-12 : 1.0001e-4));
      const double rate = refit.win_rate(sums);
      CHECK(rate == win_rate_of(ratings[0], ratings[3]));
      for (double& sum : sums) sum *= 0x1p-300;
      CHECK(refit.win_rate(sums) == doctest::Approx(rate).epsilon(1e-12));
    }
  }
}

TEST_CASE("a tier that cannot be compared with the strong one has no rating") {
  std::vector<Cell> cells = round_robin(3);
  cells.push_back({0, 3, Outcome::kA, 5.0});  // tier 3 only lost, tier 4 never played
  const std::vector<double> sums(cells.size(), 1.0);
  const TierRefit refit(5, cells, 0, 2, RefitSolver::kExact);
  std::vector<double> ratings(5);
  refit.ratings(sums, ratings);
  for (const std::size_t tier : {0U, 1U, 2U}) CHECK(std::isfinite(ratings[tier]));
  for (const std::size_t tier : {3U, 4U}) CHECK(std::isnan(ratings[tier]));

  TierRefit(5, cells, 0, 3, RefitSolver::kRouteLlm).ratings(sums, ratings);
  for (const double rating : ratings) CHECK(std::isfinite(rating));
  for (const std::size_t weak : {3U, 4U}) {
    CHECK_THROWS_WITH_AS(TierRefit(5, cells, 0, weak, RefitSolver::kExact),
                         doctest::Contains("no finite rating difference"), Error);
  }
}

TEST_CASE("two models of one tier win half of the time, also where nothing is known of it") {
  const TierRefit known(3, round_robin(3), 1, 1, RefitSolver::kExact);
  CHECK(known.win_rate(std::vector<double>(known.cells().size(), 1.0)) == 0.5);
  for (const RefitSolver solver : {RefitSolver::kExact, RefitSolver::kRouteLlm}) {
    CHECK(TierRefit(3, {}, 2, 2, solver).win_rate({}) == 0.5);
  }
}

TEST_CASE("a cell or a model outside the tiers is refused") {
  const auto build = [](std::vector<Cell> cells, std::size_t strong, std::size_t weak) {
    return TierRefit(3, std::move(cells), strong, weak, RefitSolver::kRouteLlm);
  };
  CHECK_THROWS_AS(build(round_robin(3), 3, 0), Error);
  CHECK_THROWS_AS(build(round_robin(3), 0, 3), Error);
  CHECK_THROWS_AS(build({{4, 0, Outcome::kA, 1.0}}, 0, 1), Error);
  CHECK_THROWS_AS(build({{0, 4, Outcome::kA, 1.0}}, 0, 1), Error);
  CHECK_THROWS_AS(build({{2, 2, Outcome::kA, 1.0}}, 0, 1), Error);
  CHECK_NOTHROW(build({{3, 2, Outcome::kA, 1.0}}, 0, 1));
}

}  // namespace
}  // namespace routellm_fast
