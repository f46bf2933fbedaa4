#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "base/error.hpp"
#include "score/model_folding.hpp"

namespace routellm_fast {
namespace {

// NOLINTBEGIN(readability-identifier-naming): the paper's letters
const std::vector<float> P{3.0F, 4.0F, 0.0F, 0.0F, -1.0F, 2.0F};
const std::vector<float> W{1.0F, 2.0F, 3.0F, -4.0F, 5.0F, 0.5F};
const std::vector<float> w{2.0F, -1.0F};
// NOLINTEND(readability-identifier-naming)

TEST_CASE("a row times an embedding is the formula's logit; a vector of zeros has the row of zeros") {
  const std::array<std::size_t, 3> all{0, 1, 2};
  const std::vector<double> rows = fold_models({P, W, w, 3}, all);
  const std::array<double, 3> e{0.5, -1.0, 2.0};
  for (std::size_t m = 0; m < 3; ++m) {
    const double length = std::hypot(static_cast<double>(P[2 * m]), static_cast<double>(P[2 * m + 1]));
    double expected = 0.0;
    double found = 0.0;
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t k = 0; k < 2 && length > 0.0; ++k) {
        expected += static_cast<double>(w[k]) * static_cast<double>(P[2 * m + k]) / length *
                    static_cast<double>(W[k * 3 + j]) * e[j];
      }
      found += rows[m * 3 + j] * e[j];
    }
    CHECK(found == doctest::Approx(expected).epsilon(1e-12));
  }
  const std::vector<float> pair = fold_pair({P, W, w, 3}, 2, 0);
  for (std::size_t j = 0; j < 3; ++j) CHECK(pair[j] == static_cast<float>(rows[6 + j] - rows[j]));
}

TEST_CASE("sizes that do not agree are refused") {
  const std::array<std::size_t, 1> third{3};
  CHECK_THROWS_AS((void)fold_models({P, W, w, 3}, third), Error);
  CHECK_THROWS_AS((void)fold_pair({P, W, w, 2}, 0, 1), Error);
  CHECK_THROWS_AS((void)fold_pair({P, {}, {}, 0}, 0, 1), Error);
}

}  // namespace
}  // namespace routellm_fast
