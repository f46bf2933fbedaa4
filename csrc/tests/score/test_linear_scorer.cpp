#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "score/linear_scorer.hpp"

namespace routellm_fast {
namespace {

std::vector<float> random_floats(unsigned seed, std::size_t n, float scale = 1.0F) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(rng);
  return values;
}

double exact_win_rate(const float* embedding, const std::vector<float>& weights) {
  double logit = 0.0;
  for (std::size_t d = 0; d < weights.size(); ++d) {
    logit += static_cast<double>(embedding[d]) * static_cast<double>(weights[d]);
  }
  return 1.0 / (1.0 + std::exp(-logit));
}

TEST_CASE("win rates match float64, and a row scores the same alone and in a batch") {
  constexpr std::size_t kDim = 261;
  constexpr std::size_t kCount = 40;
  const std::vector<float> weights = random_floats(1, kDim, 0.1F);
  const std::vector<float> embeddings = random_floats(2, kCount * kDim);
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    const LinearScorer scorer(weights, kernels(isa));
    std::vector<float> out(kCount);
    scorer.win_rates(embeddings.data(), kCount, kDim, out.data());
    for (std::size_t r = 0; r < kCount; ++r) {
      CHECK(out[r] == scorer.win_rate(embeddings.data() + r * kDim));
      CHECK(static_cast<double>(out[r]) ==
            doctest::Approx(exact_win_rate(embeddings.data() + r * kDim, weights)).epsilon(1e-5));
    }
  }
}

TEST_CASE("a non-finite embedding is refused, naming row and column, wherever it stands and whatever its weight") {
  std::vector<float> weights = random_floats(3, 100);
  weights[41] = 0.0F;
  const LinearScorer scorer(weights, kernels(active_isa()));
  std::vector<float> out(3);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::size_t column = 0; column < 100; ++column) {
      std::vector<float> embeddings(300, 0.5F);
      embeddings[200 + column] = bad;
      CHECK_THROWS_WITH_AS(scorer.win_rates(embeddings.data(), 3, 100, out.data()),
                           doctest::Contains("embedding 2 has"), Error);
    }
  }
}

TEST_CASE("finite values that overflow float32 still have a win rate") {
  constexpr float kHuge = std::numeric_limits<float>::max();
  const std::vector<float> weights{2.0F, -2.0F, 1.0F};
  const LinearScorer scorer(weights, kernels(active_isa()));
  const std::vector<float> cancelling{kHuge, kHuge, 0.0F};
  CHECK(scorer.win_rate(cancelling.data()) == 0.5F);
  const std::vector<float> high{kHuge, 0.0F, 0.0F};
  CHECK(scorer.win_rate(high.data()) == 1.0F);
  const std::vector<float> low{0.0F, kHuge, 0.0F};
  CHECK(scorer.win_rate(low.data()) == 0.0F);
}

TEST_CASE("weights must be there and finite") {
  const std::vector<float> none;
  CHECK_THROWS_AS(LinearScorer(none, kernels(active_isa())), Error);
  const std::vector<float> bad{1.0F, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_WITH_AS(LinearScorer(bad, kernels(active_isa())), doctest::Contains("weight 1"), Error);
}

TEST_CASE("the difference of two models' logits is the pair's logit") {
  constexpr std::size_t kDim = 64;
  const std::vector<float> rows = random_floats(5, 3 * kDim, 0.2F);
  const std::vector<float> embedding = random_floats(6, kDim);
  const LinearModels models(rows, 3, kernels(active_isa()));
  std::vector<float> logits(3);
  models.logits(embedding.data(), 1, kDim, logits.data());
  std::vector<float> difference(kDim);
  for (std::size_t d = 0; d < kDim; ++d) difference[d] = rows[d] - rows[2 * kDim + d];
  const LinearScorer pair(difference, kernels(active_isa()));
  CHECK(sigmoid(logits[0] - logits[2]) == doctest::Approx(pair.win_rate(embedding.data())).epsilon(1e-5));
}

TEST_CASE("scores of every instruction set are float64's, for any dim and batch") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const std::size_t dim = 1 + random() % 300;
    const std::size_t count = random() % 7;
    CAPTURE(dim);
    const std::vector<float> weights = random_floats(random(), dim, 1.0F / std::sqrt(static_cast<float>(dim)));
    const std::vector<float> embeddings = random_floats(random(), count * dim);
    // The pair's vector, its opposite, and zeros.
    std::vector<float> models = weights;
    for (const float weight : weights) models.push_back(-weight);
    models.resize(3 * dim, 0.0F);
    for (const Isa isa : supported_isas()) {
      CAPTURE(isa_name(isa));
      const LinearScorer scorer(weights, kernels(isa));
      std::vector<float> rates(count);
      scorer.win_rates(embeddings.data(), count, dim, rates.data());
      std::vector<float> logits(3 * count);
      LinearModels(models, 3, kernels(isa)).logits(embeddings.data(), count, dim, logits.data());
      for (std::size_t r = 0; r < count; ++r) {
        const float* const row = embeddings.data() + r * dim;
        const double exact = exact_win_rate(row, weights);
        CHECK(std::abs(static_cast<double>(rates[r]) - exact) <= 2e-6);
        CHECK(rates[r] == scorer.win_rate(row));
        CHECK(logits[3 * r] == -logits[3 * r + 1]);
        CHECK(logits[3 * r + 2] == 0.0F);
        CHECK(std::abs(1.0 / (1.0 + std::exp(-static_cast<double>(logits[3 * r]))) - exact) <= 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace routellm_fast
