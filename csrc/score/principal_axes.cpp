#include "score/principal_axes.hpp"

#include <string>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {

PrincipalAxes::PrincipalAxes(std::span<const float> mean, std::span<const float> axes)
    : mean_(mean.begin(), mean.end()), axes_(axes.begin(), axes.end()) {
  if (mean.empty() || axes.empty() || axes.size() % mean.size() != 0) {
    throw Error(ErrorCode::kInvalidArgument, std::to_string(axes.size()) + " values make no axes of " +
                                                 std::to_string(mean.size()) + " dimensions.");
  }
}

float PrincipalAxes::project(const float* query, const KernelTable& kernels, float* coordinates) const {
  kernels.matvec_f32(axes_.data(), axis_count(), dim(), dim(), query, coordinates);
  return kernels.dot_f32(mean_.data(), query, dim());
}

}  // namespace routellm_fast
