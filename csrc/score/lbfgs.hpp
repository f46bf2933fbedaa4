#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace routellm_fast {

/// When to stop; the values are scikit-learn's for LogisticRegression.
struct LbfgsOptions {
  double gradient_tolerance = 1e-4;         // on the largest component
  double relative_decrease = 64 * 0x1p-52;  // of the value, against max(|before|, |after|, 1)
  std::size_t max_iterations = 100;
  std::size_t max_searches = 50;  // evaluations a line search
};

/// Returns the value at x and writes the gradient.
using Objective = std::function<double(std::span<const double> x, std::span<double> gradient)>;

/// Minimises in place, from x, by the steps of L-BFGS-B without bounds: ten corrections, first step of length one, line
/// search of Moré and Thuente (1994) with the constants 1e-3, 0.9, 0.1. Follows the iterates of SciPy's routine up to
/// rounding; that is its purpose, since an early stop makes the path part of the answer.
void minimize_lbfgs(const Objective& objective, std::span<double> x, const LbfgsOptions& options = {});

}  // namespace routellm_fast
