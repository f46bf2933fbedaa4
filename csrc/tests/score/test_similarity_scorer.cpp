#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "score/bradley_terry.hpp"
#include "score/similarity_bank.hpp"
#include "score/similarity_scorer.hpp"
#include "score/tier_refit.hpp"
#include "support/sample_battles.hpp"

namespace routellm_fast {
namespace {

using Zeros = SimilarityScorer::Zeros;

constexpr std::size_t kDim = 40;
constexpr std::size_t kTiers = 3;
constexpr std::size_t kCells = 9;  // every pair of tiers in every outcome

std::vector<Cell> cells_of(const Samples& samples) {
  std::vector<Cell> cells;
  for (std::uint16_t a = 0; a < kTiers; ++a) {
    for (std::uint16_t b = 0; b < a; ++b) {
      for (const Outcome outcome : {Outcome::kA, Outcome::kB, Outcome::kTie}) cells.push_back({a, b, outcome, 0.0});
    }
  }
  for (const auto& battles : samples) {
    for (const std::uint32_t cell : battles->cells) cells[cell].battles += 1.0;
    for (const Repeat& repeat : battles->repeats) cells[repeat.cell].battles += repeat.battles;
  }
  return cells;
}

std::shared_ptr<const SimilarityScorer> scorer_of(const Samples& samples, const KernelTable& kernels,
                                                  RefitSolver solver = RefitSolver::kExact) {
  const auto refit = std::make_shared<TierRefit>(kTiers, cells_of(samples), 0, 2, solver);
  return std::make_shared<SimilarityScorer>(bank_of(samples, false, kernels), refit, kernels);
}

std::vector<double> win_rates(const SimilarityScorer& scorer, const std::vector<float>& embeddings,
                              std::size_t threads = 1, Zeros zeros = Zeros::kRefuse) {
  std::vector<double> out(embeddings.size() / scorer.dim(), -1.0);
  scorer.win_rates(embeddings.data(), out.size(), threads, zeros, out.data());
  return out;
}

std::vector<double> ratings(const SimilarityScorer& scorer, const std::vector<float>& embeddings,
                            std::size_t threads = 1, Zeros zeros = Zeros::kRefuse) {
  const std::size_t count = embeddings.size() / scorer.dim();
  std::vector<double> out(count * kTiers, -1.0);
  scorer.ratings(embeddings.data(), count, threads, zeros, out.data());
  return out;
}

Samples usual_samples() { return {sample_battles(1, 180, kDim, kCells, 20), sample_battles(2, 45, kDim, kCells)}; }

TEST_CASE("a win rate is the refit of the formula's sums") {
  const Samples samples = usual_samples();
  const std::vector<float> queries = sample_queries(3, 20, kDim);
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    const auto scorer = scorer_of(samples, kernels(isa));
    const std::vector<double> rates = win_rates(*scorer, queries);
    const std::vector<double> tiers = ratings(*scorer, queries);
    for (std::size_t q = 0; q < 20; ++q) {
      const ExactSums exact = exact_sums(samples, queries.data() + q * kDim);
      CHECK(rates[q] == doctest::Approx(scorer->refit().win_rate(exact.shares)).epsilon(1e-5));
      CHECK(rates[q] == win_rate_of(tiers[q * kTiers], tiers[q * kTiers + 2]));
    }
  }
}

TEST_CASE("neither batch nor threads change a result, bitwise") {
  const std::vector<float> queries = sample_queries(4, 61, kDim);
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    const auto scorer = scorer_of(usual_samples(), kernels(isa));
    const std::vector<double> rates = win_rates(*scorer, queries);
    const std::vector<double> tiers = ratings(*scorer, queries);
    for (const std::size_t threads : {0U, 2U, 3U, 4U, 100U}) {
      CHECK(win_rates(*scorer, queries, threads) == rates);
      CHECK(ratings(*scorer, queries, threads) == tiers);
    }
    for (std::size_t q = 0; q < 61; ++q) {
      const auto begin = queries.begin() + static_cast<std::ptrdiff_t>(q * kDim);
      CHECK(win_rates(*scorer, {begin, begin + kDim}).front() == rates[q]);
    }
    CHECK(win_rates(*scorer, {}, 4).empty());
  }
}

TEST_CASE("a batch of any size scores in parts of bounded size") {
  const auto scorer = scorer_of({sample_battles(1, 27, 8, kCells)}, kernels(active_isa()));
  const std::vector<float> few = sample_queries(5, 4, 8);
  std::vector<float> many;
  for (std::size_t k = 0; k < 400; ++k) many.insert(many.end(), few.begin(), few.end());
  const std::vector<double> expected = win_rates(*scorer, few);
  const std::vector<double> found = win_rates(*scorer, many, 2);
  for (std::size_t q = 0; q < found.size(); ++q) REQUIRE(found[q] == expected[q % 4]);
  many[1'500 * 8 + 3] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH_AS(win_rates(*scorer, many), doctest::Contains("embedding 1500 has inf in column 3"), Error);
}

TEST_CASE("an embedding's length changes nothing, as far as float32 goes in either direction") {
  const auto scorer = scorer_of(usual_samples(), kernels(active_isa()));
  const std::vector<float> queries = sample_queries(6, 3, kDim);
  const std::vector<double> rates = win_rates(*scorer, queries);
  for (const int exponent : {-100, -1, 1, 100, 124}) {
    CAPTURE(exponent);
    std::vector<float> scaled(queries);
    for (float& value : scaled) value = std::ldexp(value, exponent);
    CHECK(win_rates(*scorer, scaled) == rates);
  }
  std::vector<float> smallest(kDim, 0.0F);
  smallest[7] = std::numeric_limits<float>::denorm_min();
  std::vector<float> one(kDim, 0.0F);
  one[7] = 1.0F;
  CHECK(win_rates(*scorer, smallest) == win_rates(*scorer, one));
}

TEST_CASE("an embedding that has no answer is refused by its row, on whichever thread") {
  const auto scorer = scorer_of(usual_samples(), kernels(active_isa()));
  for (const std::size_t threads : {1U, 2U, 3U, 4U}) {
    for (const std::size_t row : {0U, 5U, 9U}) {
      std::vector<float> queries = sample_queries(7, 10, kDim);
      float* const bad = queries.data() + row * kDim;
      const std::string name = "embedding " + std::to_string(row) + " ";
      for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        bad[kDim - 1] = value;
        CHECK_THROWS_WITH_AS(win_rates(*scorer, queries, threads), doctest::Contains((name + "has").c_str()), Error);
        CHECK_THROWS_WITH_AS(ratings(*scorer, queries, threads, Zeros::kWeighAllEqually),
                             doctest::Contains("in column 39"), Error);
      }
      std::fill_n(bad, kDim, 0.0F);
      bad[3] = -0.0F;
      CHECK_THROWS_WITH_AS(win_rates(*scorer, queries, threads), doctest::Contains((name + "is all zeros").c_str()),
                           Error);
    }
  }
  try {
    (void)win_rates(*scorer, std::vector<float>(kDim, 0.0F));
    FAIL("zeros were not refused");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kInvalidEmbedding);
  }
}

TEST_CASE("zeros may weigh all battles equally, and leave their neighbours alone") {
  for (const RefitSolver solver : {RefitSolver::kExact, RefitSolver::kRouteLlm}) {
    const Samples samples = usual_samples();
    const auto scorer = scorer_of(samples, kernels(active_isa()), solver);
    std::vector<double> battles;
    for (const Cell& cell : cells_of(samples)) battles.push_back(cell.battles);
    std::vector<float> queries = sample_queries(8, 7, kDim);
    const std::vector<double> before = win_rates(*scorer, queries);
    std::fill_n(queries.begin() + static_cast<std::ptrdiff_t>(2 * kDim), 2 * kDim, 0.0F);
    const std::vector<double> after = win_rates(*scorer, queries, 3, Zeros::kWeighAllEqually);
    for (std::size_t q = 0; q < 7; ++q) {
      CHECK(after[q] == (q == 2 || q == 3 ? scorer->refit().win_rate(battles) : before[q]));
    }
  }
}

TEST_CASE("a largest similarity of exactly 0 is refused by its row") {
  const auto battles = std::make_shared<SampleBattles>(*sample_battles(1, 9, 2, kCells));
  for (std::size_t r = 0; r < 9; ++r) {
    battles->rows[2 * r] = 0.0F;
    battles->rows[2 * r + 1] = r % 2 == 0 ? 1.0F : -1.0F;
    battles->norms[r] = 1.0;
  }
  const auto scorer = scorer_of({battles}, kernels(active_isa()));
  const std::vector<float> queries{1.0F, 1.0F, 1.0F, -1.0F, 3.0F, 0.0F};
  for (const std::size_t threads : {1U, 3U}) {
    CHECK_THROWS_WITH_AS(win_rates(*scorer, queries, threads),
                         doctest::Contains("embedding 2 has a largest similarity"), Error);
  }
}

TEST_CASE("a bank whose file was changed under it is named, not scored") {
  const auto battles = std::make_shared<SampleBattles>(*sample_battles(1, 30, kDim, kCells));
  battles->rows[3 * kDim + 5] = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    const auto scorer = scorer_of({battles}, kernels(isa));
    CHECK_THROWS_WITH_AS(win_rates(*scorer, sample_queries(9, 2, kDim)), doctest::Contains("not finite"), Error);
  }
}

TEST_CASE("a bank and a refit of different cells do not fit") {
  const Samples samples{sample_battles(1, 30, kDim, kCells - 1)};
  CHECK_THROWS_WITH_AS(scorer_of(samples, kernels(active_isa())), doctest::Contains("8 cells, the refit 9"), Error);
}

TEST_CASE("lengths are right where their squares leave float32's range, and have an error where there is none") {
  const KernelTable& kernel = kernels(active_isa());
  std::vector<float> rows{3e30F, 4e30F, 0.0F, 0.0F, 0.0F, -3e-30F, 4e-30F, 0.0F,
                          0.0F,  0.0F,  1.0F, 1.0F, 1.0F, 1.0F,    0.5F};
  std::vector<double> norms(3);
  row_norms(rows.data(), 3, 5, kernel, norms.data());
  CHECK(norms[0] == doctest::Approx(5e30).epsilon(1e-7));
  CHECK(norms[1] == doctest::Approx(5e-30).epsilon(1e-7));
  CHECK(norms[2] == doctest::Approx(std::sqrt(4.25)).epsilon(1e-15));
  rows[14] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS(row_norms(rows.data(), 3, 5, kernel, norms.data()), doctest::Contains("embedding 2 has nan"),
                       Error);
  std::fill_n(rows.begin() + 5, 5, 0.0F);
  CHECK_THROWS_WITH_AS(row_norms(rows.data(), 3, 5, kernel, norms.data()),
                       doctest::Contains("embedding 1 is all zeros"), Error);
}

TEST_CASE("queries during an add are answered by the router before or the one after, never by a mixture") {
  // What a router and one with battles added share is the blocks: a writer builds on them while readers score.
  constexpr std::size_t kVersions = 12;
  constexpr int kReaders = 4;
  constexpr std::size_t kQueries = 6;
  const std::vector<float> queries = sample_queries(10, kQueries, kDim);
  struct Version {
    std::shared_ptr<const SimilarityScorer> scorer;
    std::vector<double> expected;
  };
  const KernelTable& kernel = kernels(active_isa());
  SimilarityBank::Blocks blocks;
  Samples samples;
  const auto add = [&](unsigned seed) {
    samples.push_back(sample_battles(seed, 30 + seed, kDim, kCells, seed));
    blocks.push_back(block_of(samples.back()));
    const auto bank = std::make_shared<SimilarityBank>(kDim, kCells, blocks, false, kernel);
    const auto refit = std::make_shared<TierRefit>(kTiers, cells_of(samples), 0, 2, RefitSolver::kExact);
    const auto version = std::make_shared<Version>();
    version->scorer = std::make_shared<SimilarityScorer>(bank, refit, kernel);
    version->expected = win_rates(*version->scorer, queries);
    return std::shared_ptr<const Version>(version);
  };

  std::mutex guard;
  std::shared_ptr<const Version> current = add(1);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> answers{0};
  const auto read = [&](std::size_t threads) {
    do {
      std::shared_ptr<const Version> version;
      {
        const std::scoped_lock lock(guard);
        version = current;
      }
      if (win_rates(*version->scorer, queries, threads) != version->expected) ++wrong;
      ++answers;
    } while (!done);
  };
  {
    std::vector<std::jthread> readers;
    readers.reserve(kReaders);
    for (std::size_t t = 0; t < kReaders; ++t) readers.emplace_back(read, 1 + t % 2);
    for (unsigned seed = 2; seed <= kVersions; ++seed) {
      std::shared_ptr<const Version> next = add(seed);
      const std::uint64_t before = answers;
      {
        const std::scoped_lock lock(guard);
        std::swap(current, next);
      }
      next.reset();  // readers may hold the last reference to the version before
      while (answers < before + kReaders) std::this_thread::yield();
    }
    done = true;
  }
  CHECK(wrong == 0);
  CHECK(answers >= kVersions * kReaders);
}

}  // namespace
}  // namespace routellm_fast
