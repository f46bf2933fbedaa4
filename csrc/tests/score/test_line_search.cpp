#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "score/lbfgs.hpp"
#include "score/line_search.hpp"

namespace routellm_fast {
namespace {

struct ValueAndSlope {
  double value;
  double slope;
};

using Function = std::function<ValueAndSlope(double)>;

// The six functions of section 5 of Moré and Thuente (1994). The first three are theirs; the others are those of Yanai,
// Ozawa and Kaneko (1981).
ValueAndSlope rational(double a) {
  constexpr double kBeta = 2.0;
  const double below = a * a + kBeta;
  return {-a / below, (a * a - kBeta) / (below * below)};
}

ValueAndSlope quintic(double a) {
  const double x = a + 0.004;
  return {std::pow(x, 5) - 2.0 * std::pow(x, 4), 5.0 * std::pow(x, 4) - 8.0 * std::pow(x, 3)};
}

ValueAndSlope wavy(double a) {
  constexpr double kBeta = 0.01;
  constexpr double kWaves = 39.0 * std::numbers::pi / 2.0;
  ValueAndSlope base{};
  if (a <= 1.0 - kBeta) {
    base = {1.0 - a, -1.0};
  } else if (a >= 1.0 + kBeta) {
    base = {a - 1.0, 1.0};
  } else {
    base = {(a - 1.0) * (a - 1.0) / (2.0 * kBeta) + kBeta / 2.0, (a - 1.0) / kBeta};
  }
  return {base.value + (1.0 - kBeta) / kWaves * std::sin(kWaves * a),
          base.slope + (1.0 - kBeta) * std::cos(kWaves * a)};
}

Function two_hyperbolas(double beta_1, double beta_2) {
  const auto gamma = [](double beta) { return std::sqrt(1.0 + beta * beta) - beta; };
  const double left = gamma(beta_1);
  const double right = gamma(beta_2);
  return [=](double a) {
    const double at_left = std::sqrt((1.0 - a) * (1.0 - a) + beta_2 * beta_2);
    const double at_right = std::sqrt(a * a + beta_1 * beta_1);
    return ValueAndSlope{left * at_left + right * at_right, left * (a - 1.0) / at_left + right * a / at_right};
  };
}

const std::array<Function, 6>& classic_functions() {
  static const std::array<Function, 6> functions{
      rational, quintic, wavy, two_hyperbolas(1e-3, 1e-3), two_hyperbolas(1e-2, 1e-3), two_hyperbolas(1e-3, 1e-2)};
  return functions;
}

struct Found {
  int evaluations;
  double step;
};

TEST_CASE("searches take the steps of MINPACK's dcsrch") {
  // SciPy 1.17.1's scipy.optimize._dcsrch with ftol 1e-3, gtol 0.9, xtol 0.1, from the first steps below.
  constexpr std::array<double, 5> kFirstSteps{1e-3, 1e-1, 1.0, 1e1, 1e3};
  constexpr std::array<std::array<Found, 5>, 6> kRecorded{
      {{{{5, 0.341}, {2, 0.5}, {1, 1.0}, {1, 10.0}, {4, 36.88760696396662}}},
       {{{11, 1.5975830448985595},
         {7, 1.6024085266778738},
         {7, 1.5961295989208408},
         {6, 1.6123738059384738},
         {10, 1.5950402760316598}}},
       {{{11, 0.9967520447385962},
         {9, 0.9858519280776707},
         {1, 1.0},
         {7, 0.9811565020243171},
         {11, 1.0117927501914992}}},
       {{{1, 0.001}, {1, 0.1}, {2, 0.49949999999999994}, {3, 0.3491046164172457}, {4, 0.8294012431694555}}},
       {{{1, 0.001}, {1, 0.1}, {2, 0.5000605084618034}, {3, 0.33627765766759665}, {4, 0.8223749381397483}}},
       {{{1, 0.001}, {1, 0.1}, {2, 0.4983790131753166}, {3, 0.5076952642709651}, {4, 0.8369774696753841}}}}};
  for (std::size_t k = 0; k < classic_functions().size(); ++k) {
    const Function& function = classic_functions().at(k);
    const ValueAndSlope start = function(0.0);
    for (std::size_t f = 0; f < kFirstSteps.size(); ++f) {
      CAPTURE(k);
      CAPTURE(f);
      LineSearch search(start.value, start.slope, kFirstSteps.at(f), 1e10);
      Found found{0, 0.0};
      ValueAndSlope at{};
      while (!search.done() && found.evaluations < 50) {
        found.step = search.step();
        at = function(found.step);
        search.update(at.value, at.slope);
        ++found.evaluations;
      }
      CHECK(search.done());
      CHECK(found.evaluations == kRecorded.at(k).at(f).evaluations);
      CHECK(found.step == doctest::Approx(kRecorded.at(k).at(f).step).epsilon(1e-9));
      CHECK(at.value <= start.value + 1e-3 * found.step * start.slope);
    }
  }
}

TEST_CASE("a search without a minimum ahead goes to the largest step and stops there") {
  LineSearch search(0.0, -1.0, 1.0, 100.0);
  int evaluations = 0;
  for (; !search.done() && evaluations < 50; ++evaluations) search.update(-search.step(), -1.0);
  CHECK(search.done());
  CHECK(search.step() == 100.0);
  CHECK(evaluations < 10);
}

struct Minimum {
  std::vector<double> x;
  std::size_t evaluations = 0;
};

Minimum minimize(const Objective& objective, std::vector<double> start, const LbfgsOptions& options = {}) {
  Minimum found{std::move(start)};
  const Objective counted = [&](std::span<const double> x, std::span<double> gradient) {
    ++found.evaluations;
    return objective(x, gradient);
  };
  std::vector<double> x = found.x;
  minimize_lbfgs(counted, x, options);
  found.x = std::move(x);
  return found;
}

double largest_slope(const Objective& objective, const std::vector<double>& x) {
  std::vector<double> gradient(x.size());
  objective(x, gradient);
  double largest = 0.0;
  for (const double slope : gradient) largest = std::max(largest, std::abs(slope));
  return largest;
}

double rosenbrock(std::span<const double> x, std::span<double> gradient) {
  double value = 0.0;
  std::ranges::fill(gradient, 0.0);
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    const double off = x[i + 1] - x[i] * x[i];
    const double left = 1.0 - x[i];
    value += 100.0 * off * off + left * left;
    gradient[i] += -400.0 * off * x[i] - 2.0 * left;
    gradient[i + 1] += 200.0 * off;
  }
  return value;
}

TEST_CASE("quadratics of every condition are minimised to the tolerance") {
  std::mt19937 rng(1);
  std::normal_distribution<double> normal;
  for (const std::size_t n : {1U, 2U, 10U, 25U}) {
    for (const double condition : {1.0, 100.0, 1e3}) {
      CAPTURE(n);
      CAPTURE(condition);
      std::vector<double> curvature(n);
      std::vector<double> bottom(n);
      for (std::size_t i = 0; i < n; ++i) {
        curvature[i] = n == 1 ? condition : std::pow(condition, static_cast<double>(i) / static_cast<double>(n - 1));
        bottom[i] = normal(rng);
      }
      const Objective quadratic = [&](std::span<const double> x, std::span<double> gradient) {
        double value = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
          gradient[i] = curvature[i] * (x[i] - bottom[i]);
          value += 0.5 * gradient[i] * (x[i] - bottom[i]);
        }
        return value;
      };
      const Minimum found =
          minimize(quadratic, std::vector<double>(n, 0.0), {.relative_decrease = 0.0, .max_iterations = 1000});
      CHECK(largest_slope(quadratic, found.x) <= 1e-4);
      for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(found.x[i] - bottom[i]) <= 1e-4);
    }
  }
}

TEST_CASE("logistic losses are minimised to the tolerance, or to no further decrease where they have no minimum") {
  std::mt19937 rng(2);
  std::normal_distribution<double> normal;
  constexpr std::size_t kRows = 60;
  constexpr std::size_t kDim = 8;
  std::vector<double> rows(kRows * kDim);
  std::vector<double> signs(kRows);
  for (double& value : rows) value = normal(rng);
  for (double& sign : signs) sign = normal(rng) > 0.0 ? 1.0 : -1.0;
  const Objective logistic = [&](std::span<const double> x, std::span<double> gradient) {
    double value = 0.0;
    std::ranges::fill(gradient, 0.0);
    for (std::size_t r = 0; r < kRows; ++r) {
      double margin = 0.0;
      for (std::size_t d = 0; d < kDim; ++d) margin += signs[r] * rows[r * kDim + d] * x[d];
      value += std::log1p(std::exp(-margin)) / kRows;
      for (std::size_t d = 0; d < kDim; ++d) {
        gradient[d] -= signs[r] * rows[r * kDim + d] / (1.0 + std::exp(margin)) / kRows;
      }
    }
    return value;
  };
  const Minimum found = minimize(logistic, std::vector<double>(kDim, 0.0));
  CHECK(largest_slope(logistic, found.x) <= 1e-4);
  CHECK(found.evaluations < 40);

  for (std::size_t r = 0; r < kRows; ++r) signs[r] = rows[r * kDim] > 0.0 ? 1.0 : -1.0;  // separable
  const Minimum separated = minimize(logistic, std::vector<double>(kDim, 0.0));
  for (const double value : separated.x) CHECK(std::isfinite(value));
  CHECK(separated.x[0] > 1.0);
}

TEST_CASE("iterates are SciPy's") {
  // scipy 1.17.1: minimize(rosenbrock, jac=True, method="L-BFGS-B", options={"maxiter": ..., "maxcor": 10, "maxls": 50,
  // "gtol": 1e-4, "ftol": 64 * 2**-52}). Rounding differs from step to step, hence the tolerance.
  struct Recorded {
    std::size_t iterations;
    std::size_t evaluations;
    std::vector<double> x;
  };
  const std::vector<Recorded> two{
      {1, 3, {-1.0174097957038217, 1.0745266139984402}},        {2, 4, {-1.0270197526043319, 1.068358702632824}},
      {5, 7, {-1.021385160033696, 1.0392943881350645}},         {10, 12, {-0.6778321515223978, 0.4258544052059624}},
      {15, 20, {-0.025726273394194234, -0.020012804117884028}}, {20, 25, {0.3701747138675921, 0.1322932128680881}},
      {100, 44, {0.9999989453492681, 0.9999980209057083}}};
  const std::vector<Recorded> four{
      {3, 4, {-0.5722036687667437, 0.3362081510548963, 0.2034950973638323, 0.05652317338935517}},
      {12, 13, {-0.5375559145879523, 0.3017258075893474, 0.09995608372802699, -0.0016062387033209044}},
      {30, 41, {0.6863093989611937, 0.4338893715968398, 0.16604924303152527, 0.0019838094969755926}},
      {100, 65, {0.9999999282568894, 0.9999998781280125, 0.9999997585640304, 0.9999995239653827}}};
  const auto check = [](const std::vector<double>& start, const std::vector<Recorded>& recorded) {
    for (const Recorded& expected : recorded) {
      CAPTURE(expected.iterations);
      const Minimum found = minimize(rosenbrock, start, {.max_iterations = expected.iterations});
      CHECK(found.evaluations == expected.evaluations);
      for (std::size_t i = 0; i < start.size(); ++i) CHECK(std::abs(found.x[i] - expected.x[i]) < 1e-6);
    }
  };
  check({-1.2, 1.0}, two);
  check({-1.2, 1.0, 0.5, -0.7}, four);
}

TEST_CASE("a start that is good enough is left alone") {
  const Minimum found = minimize(rosenbrock, {1.0, 1.0});
  CHECK(found.evaluations == 1);
  CHECK(found.x == std::vector<double>{1.0, 1.0});
  const Objective nothing = [](std::span<const double>, std::span<double>) { return 0.0; };
  CHECK(minimize(nothing, {}).evaluations == 1);
}

TEST_CASE("an objective that is not a number, or whose gradient points uphill, ends the search where it stood") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const Objective undefined = [](std::span<const double> x, std::span<double> gradient) {
    gradient[0] = x[0] == 0.0 ? -1.0 : kNan;
    return x[0] == 0.0 ? 0.0 : kNan;
  };
  const Minimum lost = minimize(undefined, {0.0});
  CHECK(lost.x[0] == 0.0);
  CHECK(lost.evaluations <= 51);
  const Objective uphill = [](std::span<const double> x, std::span<double> gradient) {
    gradient[0] = -1.0;
    return x[0];
  };
  CHECK(minimize(uphill, {0.0}).x[0] == 0.0);
}

}  // namespace
}  // namespace routellm_fast
