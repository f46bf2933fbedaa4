#include "score/model_folding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"

namespace routellm_fast {

std::vector<double> fold_models(const FactorWeights& weights, std::span<const std::size_t> models) {
  const std::size_t d = weights.w.size();
  if (d == 0 || weights.P.size() % d != 0 || weights.W.size() != d * weights.dim) {
    throw Error(ErrorCode::kInvalidArgument, std::to_string(weights.P.size()) + ", " +
                                                 std::to_string(weights.W.size()) + " and " + std::to_string(d) +
                                                 " values make no P (models, d), W (d, dim) and w (d,) of " +
                                                 std::to_string(weights.dim) + " dimensions.");
  }
  std::vector<double> rows(models.size() * weights.dim, 0.0);
  for (std::size_t m = 0; m < models.size(); ++m) {
    if (models[m] >= weights.model_count()) {
      throw Error(ErrorCode::kInvalidArgument, "model " + std::to_string(models[m]) + " of " +
                                                   std::to_string(weights.model_count()) + " has no vector.");
    }
    const std::span<const float> vector = weights.P.subspan(models[m] * d, d);
    double square = 0.0;
    for (const float value : vector) square += static_cast<double>(value) * static_cast<double>(value);
    const double length = std::max(std::sqrt(square), 1e-12);
    double* const row = rows.data() + m * weights.dim;
    for (std::size_t k = 0; k < d; ++k) {
      const double factor = static_cast<double>(vector[k]) / length * static_cast<double>(weights.w[k]);
      const float* const projection = weights.W.data() + k * weights.dim;
      for (std::size_t j = 0; j < weights.dim; ++j) row[j] += factor * static_cast<double>(projection[j]);
    }
  }
  return rows;
}

std::vector<float> fold_pair(const FactorWeights& weights, std::size_t strong, std::size_t weak) {
  const std::array<std::size_t, 2> pair{strong, weak};
  const std::vector<double> rows = fold_models(weights, pair);
  std::vector<float> vector(weights.dim);
  for (std::size_t j = 0; j < weights.dim; ++j) vector[j] = static_cast<float>(rows[j] - rows[weights.dim + j]);
  return vector;
}

}  // namespace routellm_fast
