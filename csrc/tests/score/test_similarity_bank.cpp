#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "kernels/kernel_abi.hpp"
#include "score/distinct_rows.hpp"
#include "score/similarity_bank.hpp"
#include "support/sample_battles.hpp"

namespace routellm_fast {
namespace {

template <typename Check>
void for_each_isa(Check check) {
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    check(kernels(isa));
  }
}

struct Sums {
  std::vector<double> sums;
  std::vector<double> largest;
};

Sums sum(const CellSums& bank, const std::vector<float>& queries) {
  const std::size_t count = queries.size() / bank.dim();
  Sums result{std::vector<double>(count * bank.cell_count(), -1.0), std::vector<double>(count, -7.0)};
  bank.sum(queries.data(), count, result.sums.data(), result.largest.data());
  return result;
}

std::span<const double> row_of(const std::vector<double>& sums, std::size_t q, std::size_t cells) {
  return std::span(sums).subspan(q * cells, cells);
}

void check_against_formula(const Samples& samples, const std::vector<float>& queries) {
  const std::size_t dim = samples.front()->dim;
  const std::size_t cells = samples.front()->cell_count;
  for_each_isa([&](const KernelTable& kernel) {
    for (const bool wide : {false, true}) {
      CAPTURE(wide);
      const Sums found = sum(*bank_of(samples, wide, kernel), queries);
      for (std::size_t q = 0; q < queries.size() / dim; ++q) {
        const ExactSums exact = exact_sums(samples, queries.data() + q * dim);
        CHECK(found.largest[q] == doctest::Approx(exact.largest).epsilon(wide ? 1e-13 : 1e-5));
        CHECK(largest_difference(shares(row_of(found.sums, q, cells)), exact.shares) < (wide ? 1e-12 : 2e-6));
      }
    }
  });
}

TEST_CASE("sums are those of the formula in float64") {
  for (const std::size_t dim : {1U, 3U, 16U, 100U, 257U}) {
    for (const std::size_t count : {1U, 2U, 17U, 300U}) {
      CAPTURE(dim);
      CAPTURE(count);
      check_against_formula({sample_battles(1, count, dim, 5)}, sample_queries(2, 3, dim));
    }
  }
}

TEST_CASE("blocks and repeats count as battles do, and a block without rows does no harm") {
  const std::vector<float> queries = sample_queries(4, 5, 24);
  check_against_formula({sample_battles(1, 150, 24, 7, 40)}, queries);
  check_against_formula(
      {sample_battles(1, 90, 24, 7, 10), sample_battles(2, 1, 24, 7), sample_battles(3, 40, 24, 7, 9)}, queries);
  check_against_formula({sample_battles(1, 90, 24, 7), sample_battles(2, 0, 24, 7), sample_battles(3, 20, 24, 7)},
                        queries);
}

TEST_CASE("a repeat equals the same row once more") {
  const auto once = sample_battles(5, 60, 32, 4);
  auto repeated = std::make_shared<SampleBattles>(*once);
  auto copied = std::make_shared<SampleBattles>(*once);
  for (const std::uint32_t row : {0U, 13U, 13U, 59U}) {
    repeated->repeats.push_back({row, row % 4, 1.0});
    copied->rows.insert(copied->rows.end(), once->row(row), once->row(row) + 32);
    copied->norms.push_back(once->norms[row]);
    copied->cells.push_back(row % 4);  // cells come in any order
  }
  const std::vector<float> queries = sample_queries(6, 4, 32);
  for_each_isa([&](const KernelTable& kernel) {
    const Sums a = sum(*bank_of({repeated}, true, kernel), queries);
    const Sums b = sum(*bank_of({copied}, true, kernel), queries);
    CHECK(a.largest == b.largest);
    for (std::size_t i = 0; i < a.sums.size(); ++i) CHECK(a.sums[i] == doctest::Approx(b.sums[i]).epsilon(1e-12));
  });
}

TEST_CASE("cells may lie in any order") {
  const auto shuffled = sample_battles(7, 200, 20, 6, 15);
  std::mt19937 rng(8);
  std::shuffle(shuffled->cells.begin(), shuffled->cells.end(), rng);
  check_against_formula({shuffled}, sample_queries(9, 3, 20));
}

TEST_CASE("a query's sums are the same alone and among others, bitwise") {
  // More rows than one tile holds at this dimension, and several blocks.
  constexpr std::size_t kDim = 384;
  constexpr std::size_t kCells = 9;
  const Samples samples{sample_battles(1, 500, kDim, kCells), sample_battles(2, 77, kDim, kCells, 12)};
  const std::vector<float> queries = sample_queries(3, 23, kDim);
  for_each_isa([&](const KernelTable& kernel) {
    for (const bool wide : {false, true}) {
      const auto bank = bank_of(samples, wide, kernel);
      const Sums together = sum(*bank, queries);
      for (std::size_t q = 0; q < 23; ++q) {
        const auto begin = queries.begin() + static_cast<std::ptrdiff_t>(q * kDim);
        const Sums alone = sum(*bank, {begin, begin + kDim});
        CHECK(alone.largest[0] == together.largest[q]);
        CHECK(std::ranges::equal(alone.sums, row_of(together.sums, q, kCells)));
      }
    }
  });
}

TEST_CASE("no queries are no work") {
  const auto bank = bank_of({sample_battles(1, 5, 8, 2)}, false, kernels(active_isa()));
  CHECK(sum(*bank, {}).sums.empty());
}

TEST_CASE("where all similarities are negative the least similar battle weighs most, without overflow") {
  constexpr std::size_t kDim = 40;
  const auto battles = sample_battles(1, 80, kDim, 4);
  for (float& value : battles->rows) value = std::abs(value);
  const std::vector<float> queries(2 * kDim, -0.5F);
  check_against_formula({battles}, queries);

  // Nearly orthogonal to one battle, opposite to another: the weights' ratio leaves float64's range.
  auto two = std::make_shared<SampleBattles>(*sample_battles(1, 2, 2, 2));
  two->rows = {-1e-4F, 1.0F, -1.0F, 0.0F};
  two->norms = {length_of(two->row(0), 2), 1.0};
  for_each_isa([&](const KernelTable& kernel) {
    for (const bool wide : {false, true}) {
      const Sums found = sum(*bank_of({two}, wide, kernel), {1.0F, 0.0F});
      CHECK(found.largest[0] == doctest::Approx(-1e-4));
      CHECK(found.sums[1] == 1.0);
      CHECK(found.sums[0] > 0.0);
      CHECK(found.sums[0] < 1e-300);
    }
  });
}

TEST_CASE("a largest similarity of exactly 0 is reported, and the sums are left as they were") {
  auto battles = std::make_shared<SampleBattles>(*sample_battles(1, 3, 2, 2));
  battles->rows = {0.0F, 1.0F, 0.0F, -2.0F, -1.0F, 0.0F};
  battles->norms = {1.0, 2.0, 1.0};
  for_each_isa([&](const KernelTable& kernel) {
    for (const bool wide : {false, true}) {
      const Sums found = sum(*bank_of({battles}, wide, kernel), {1.0F, 0.0F, 1.0F, 1.0F});
      CHECK(found.largest[0] == 0.0);
      CHECK(std::ranges::equal(row_of(found.sums, 0, 2), std::vector<double>{-1.0, -1.0}));
      CHECK(found.largest[1] == doctest::Approx(1.0));
      CHECK(found.sums[2] > 0.0);
    }
  });
}

TEST_CASE("a row's own similarity is the bank's, bitwise") {
  constexpr std::size_t kDim = 65;
  const auto battles = sample_battles(2, 50, kDim, 3);
  const std::vector<float> query = sample_queries(3, 1, kDim);
  for_each_isa([&](const KernelTable& kernel) {
    const auto bank = bank_of({battles}, false, kernel);
    const BankBlock& block = *bank->blocks().front();
    std::vector<float> dots(50);
    kernel.matmul_f32(block.row(0), 50, kDim, kDim, query.data(), 1, kDim, dots.data(), 50);
    block.divide_by_norms(dots.data());
    for (std::size_t r = 0; r < 50; ++r) CHECK(block.similarity(r, query.data(), kernel) == dots[r]);
    CHECK(sum(*bank, query).largest[0] == static_cast<double>(*std::ranges::max_element(dots)));
  });
}

TEST_CASE("float32 weights are float64's within their bound, and the same where battles repeat") {
  for (const std::size_t repeats : {0U, 20U}) {
    const auto battles = sample_battles(4, 120, 16, 5, repeats);
    const auto block = block_of(battles);
    std::vector<float> s(120);
    std::mt19937 rng(5);
    std::uniform_real_distribution<float> uniform(-0.5F, 1.0F);
    for (float& value : s) value = uniform(rng);
    for_each_isa([&](const KernelTable& kernel) {
      std::vector<double> exact(5, 1.0);  // sums are added to
      std::vector<double> fast(5, 1.0);
      block->add_weights(s.data(), 3.3, 3.3, kernel, exact.data());
      block->add_weights_f32(s.data(), 3.3, 3.3, kernel, fast.data());
      if (repeats > 0) CHECK(fast == exact);
      for (std::size_t c = 0; c < 5; ++c) CHECK(fast[c] == doctest::Approx(exact[c]).epsilon(1e-6));
    });
  }
}

TEST_CASE("the exponent makes the heaviest weight 1") {
  const WeightExponent usual(-0.2, 0.8);
  CHECK(std::exp2(usual.scale * 0.8 - usual.shift) == 1.0);
  CHECK(std::exp2(usual.scale * 0.4 - usual.shift) == doctest::Approx(std::pow(10.0, 0.5 - 1.0)));
  const WeightExponent negative(-0.8, -0.2);
  CHECK(std::exp2(negative.scale * -0.8 - negative.shift) == 1.0);
  CHECK(std::exp2(negative.scale * -0.2 - negative.shift) == doctest::Approx(std::pow(10.0, 1.0 - 4.0)));
}

TEST_CASE("parts that make no bank are refused") {
  const auto refused = [](auto spoil) {
    const auto battles = std::make_shared<SampleBattles>(*sample_battles(1, 6, 4, 3, 2));
    spoil(*battles);
    CHECK_THROWS_AS((void)block_of(battles), Error);
  };
  for (const double norm :
       {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    refused([norm](SampleBattles& battles) { battles.norms[3] = norm; });
  }
  refused([](SampleBattles& battles) { battles.cells[5] = 3; });
  refused([](SampleBattles& battles) { battles.repeats[1].cell = 3; });
  refused([](SampleBattles& battles) { battles.repeats[0].row = 6; });

  const KernelTable& kernel = kernels(active_isa());
  CHECK_THROWS_AS(SimilarityBank(4, 3, {}, false, kernel), Error);
  CHECK_THROWS_AS(SimilarityBank(4, 3, {block_of(sample_battles(1, 0, 4, 3))}, false, kernel), Error);
}

TEST_CASE("the first of equal rows is found for each row, and equal means bit for bit") {
  std::mt19937 rng(3);
  for (const std::size_t dim : {1U, 2U, 7U, 8U, 13U, 64U}) {
    constexpr std::size_t kCount = 300;
    std::vector<float> rows(kCount * dim);
    for (std::size_t r = 0; r < kCount; ++r) {
      // Few different rows, which differ in one value at the first or last place.
      const auto value = static_cast<float>(rng() % 20);
      rows[r * dim + (rng() % 2 == 0 ? 0 : dim - 1)] = value == 0.0F && rng() % 2 == 0 ? -0.0F : value;
    }
    std::vector<std::uint32_t> first(kCount);
    first_equal_rows(rows.data(), dim, first);
    const auto equal = [&](std::size_t a, std::size_t b) {
      return std::equal(rows.begin() + static_cast<std::ptrdiff_t>(a * dim),
                        rows.begin() + static_cast<std::ptrdiff_t>((a + 1) * dim),
                        rows.begin() + static_cast<std::ptrdiff_t>(b * dim),
                        [](float x, float y) { return x == y && std::signbit(x) == std::signbit(y); });
    };
    for (std::size_t r = 0; r < kCount; ++r) {
      std::uint32_t expected = 0;
      while (!equal(expected, r)) ++expected;
      REQUIRE(first[r] == expected);
    }
  }
}

}  // namespace
}  // namespace routellm_fast
