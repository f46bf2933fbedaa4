#pragma once

#include <cstddef>
#include <span>

#include "base/aligned.hpp"

namespace routellm_fast {

struct KernelTable;

/// A bank's mean and the directions in which its embeddings vary most: e . b = e . mean + (axes e) . (axes (b - mean))
/// but for what the axes leave out. Immutable.
class PrincipalAxes {
 public:
  /// mean has dim values, axes are orthonormal rows of dim values. Throws Error(kInvalidArgument) for sizes that do not
  /// fit.
  PrincipalAxes(std::span<const float> mean, std::span<const float> axes);

  [[nodiscard]] std::size_t dim() const noexcept { return mean_.size(); }
  [[nodiscard]] std::size_t axis_count() const noexcept { return axes_.size() / mean_.size(); }

  [[nodiscard]] std::span<const float> mean() const noexcept { return mean_; }

  /// Writes axis_count() coordinates and returns the product with the mean.
  float project(const float* query, const KernelTable& kernels, float* coordinates) const;

 private:
  AlignedVector<float> mean_;
  AlignedVector<float> axes_;
};

}  // namespace routellm_fast
