#include "kernel_abi.hpp"

// The readable reference that every other tier is held against, and the tier of last resort.

namespace routellm_fast {
namespace {

float dot_f32(const float* a, const float* b, std::size_t n) noexcept {
  // Four partial sums: shorter dependency chains, and a rounding error that grows with n / 4.
  float sum[4] = {0.0F, 0.0F, 0.0F, 0.0F};
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sum[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void matvec_f32(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                float* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) out[r] = dot_f32(rows + r * stride, x, dim);
}

std::int32_t dot_i8(const std::int8_t* a, const std::int8_t* b, std::size_t n) noexcept {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<std::int32_t>(a[i]) * static_cast<std::int32_t>(b[i]);
  return sum;
}

void sum_rows_i8(const std::int8_t* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                 std::int32_t* out) noexcept {
  for (std::size_t d = 0; d < dim; ++d) out[d] = 0;
  for (std::size_t t = 0; t < n; ++t) {
    const std::int8_t* row = table + static_cast<std::size_t>(ids[t]) * dim;
    for (std::size_t d = 0; d < dim; ++d) out[d] += row[d];
  }
}

void sum_rows_f32(const float* table, std::size_t dim, const std::uint32_t* ids, std::size_t n,
                  const std::uint32_t* rows, const float* weights, float* out) noexcept {
  for (std::size_t d = 0; d < dim; ++d) out[d] = 0.0F;
  for (std::size_t t = 0; t < n; ++t) {
    const std::size_t index = rows == nullptr ? ids[t] : rows[ids[t]];
    const float weight = weights == nullptr ? 1.0F : weights[ids[t]];
    const float* row = table + index * dim;
    for (std::size_t d = 0; d < dim; ++d) out[d] += weight * row[d];
  }
}

std::size_t first_nonfinite_f32(const float* x, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    if (__builtin_isfinite(x[i]) == 0) return i;
  }
  return n;
}

}  // namespace

constinit const KernelTable kKernelsScalar = {.dot_f32 = dot_f32,
                                              .matvec_f32 = matvec_f32,
                                              .dot_i8 = dot_i8,
                                              .sum_rows_i8 = sum_rows_i8,
                                              .sum_rows_f32 = sum_rows_f32,
                                              .first_nonfinite_f32 = first_nonfinite_f32};

}  // namespace routellm_fast
