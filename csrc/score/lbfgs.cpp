#include "score/lbfgs.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <vector>

#include "score/line_search.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kCorrections = 10;
constexpr double kMaxStep = 1e10;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

using Vector = std::vector<double>;

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double largest(std::span<const double> a) {
  double found = 0.0;
  for (const double value : a) found = std::max(found, std::abs(value));
  return found;
}

struct Correction {
  Vector step;
  Vector gradient_change;
  double curvature;
};

// -H g by the two loops of Nocedal (1980), on the scaled identity.
Vector descent_direction(const std::deque<Correction>& corrections, std::span<const double> gradient) {
  Vector direction(gradient.begin(), gradient.end());
  Vector alphas(corrections.size());
  for (std::size_t k = corrections.size(); k-- > 0;) {
    const Correction& c = corrections[k];
    alphas[k] = dot(c.step, direction) / c.curvature;
    for (std::size_t i = 0; i < direction.size(); ++i) direction[i] -= alphas[k] * c.gradient_change[i];
  }
  if (!corrections.empty()) {
    const Correction& newest = corrections.back();
    const double scale = newest.curvature / dot(newest.gradient_change, newest.gradient_change);
    for (double& value : direction) value *= scale;
  }
  for (std::size_t k = 0; k < corrections.size(); ++k) {
    const Correction& c = corrections[k];
    const double beta = dot(c.gradient_change, direction) / c.curvature;
    for (std::size_t i = 0; i < direction.size(); ++i) direction[i] += (alphas[k] - beta) * c.step[i];
  }
  for (double& value : direction) value = -value;
  return direction;
}

}  // namespace

void minimize_lbfgs(const Objective& objective, std::span<double> x, const LbfgsOptions& options) {
  const std::size_t n = x.size();
  Vector gradient(n);
  double value = objective(x, gradient);
  if (largest(gradient) <= options.gradient_tolerance) return;

  std::deque<Correction> corrections;
  Vector start(n);
  Vector gradient_at_start(n);
  for (std::size_t iteration = 0; iteration < options.max_iterations;) {
    const Vector direction = descent_direction(corrections, gradient);
    std::ranges::copy(x, start.begin());
    gradient_at_start = gradient;
    const double value_at_start = value;
    const double slope_at_start = dot(gradient, direction);
    bool failed = slope_at_start >= 0.0;
    double step = 0.0;
    if (!failed) {
      const double first_step = iteration == 0 ? std::min(1.0 / std::sqrt(dot(direction, direction)), kMaxStep) : 1.0;
      LineSearch search(value, slope_at_start, first_step, kMaxStep);
      for (std::size_t evaluations = 0; !search.done(); ++evaluations) {
        if (evaluations == options.max_searches) {
          failed = true;
          break;
        }
        step = search.step();
        for (std::size_t i = 0; i < n; ++i) x[i] = start[i] + step * direction[i];
        value = objective(x, gradient);
        search.update(value, dot(gradient, direction));
      }
    }
    if (failed) {
      std::ranges::copy(start, x.begin());
      value = value_at_start;
      gradient = gradient_at_start;
      if (corrections.empty()) return;
      corrections.clear();  // start again from the steepest descent
      continue;
    }
    ++iteration;
    if (largest(gradient) <= options.gradient_tolerance) return;
    const double scale = std::max({std::abs(value_at_start), std::abs(value), 1.0});
    if (value_at_start - value <= options.relative_decrease * scale) return;

    Correction correction{Vector(n), Vector(n), 0.0};
    for (std::size_t i = 0; i < n; ++i) {
      correction.step[i] = step * direction[i];
      correction.gradient_change[i] = gradient[i] - gradient_at_start[i];
    }
    correction.curvature = (dot(gradient, direction) - slope_at_start) * step;
    if (correction.curvature <= kEpsilon * -slope_at_start * step) continue;
    if (corrections.size() == kCorrections) corrections.pop_front();
    corrections.push_back(std::move(correction));
  }
}

}  // namespace routellm_fast
