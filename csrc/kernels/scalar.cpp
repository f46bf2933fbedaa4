#include "kernels/kernel_abi.hpp"

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

void matmul_f32(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* queries,
                std::size_t query_count, std::size_t query_stride, float* out, std::size_t out_stride) noexcept {
  for (std::size_t q = 0; q < query_count; ++q) {
    matvec_f32(rows, count, stride, dim, queries + q * query_stride, out + q * out_stride);
  }
}

void matvec_wide(const float* rows, std::size_t count, std::size_t stride, std::size_t dim, const float* x,
                 double* out) noexcept {
  for (std::size_t r = 0; r < count; ++r) {
    out[r] = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
      out[r] += static_cast<double>(rows[r * stride + d]) * static_cast<double>(x[d]);
    }
  }
}

void range_f32(const float* x, std::size_t n, float* low, float* high) noexcept {
  *low = x[0];
  *high = x[0];
  for (std::size_t i = 1; i < n; ++i) {
    *low = x[i] < *low ? x[i] : *low;
    *high = x[i] > *high ? x[i] : *high;
  }
}

template <typename T>
double sum_exp2(const T* x, std::size_t n, double scale, double shift, double* powers) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    const double exponent = scale * static_cast<double>(x[i]) - shift;
    const double power = __builtin_exp2(exponent < -1000.0 ? -1000.0 : exponent);
    if (powers != nullptr) powers[i] = power;
    sum += power;
  }
  return sum;
}

double sum_exp2_f32(const float* x, std::size_t n, float scale, float shift) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    const float exponent = scale * x[i] - shift;
    sum += static_cast<double>(__builtin_exp2f(exponent < -100.0F ? -100.0F : exponent));
  }
  return sum;
}

std::size_t find_at_least_f32(const float* x, std::size_t n, float threshold, std::uint32_t* indices,
                              std::size_t capacity) noexcept {
  std::size_t found = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!(x[i] >= threshold)) continue;
    if (found < capacity) indices[found] = static_cast<std::uint32_t>(i);
    ++found;
  }
  return found;
}

void score_panels_u8(const std::uint8_t* panels, std::size_t panel_count, std::size_t dim, const float* scales,
                     const CodedQueries& queries, float* out, std::size_t out_stride) noexcept {
  for (std::size_t q = 0; q < queries.count; ++q) {
    for (std::size_t p = 0; p < panel_count; ++p) {
      const std::uint8_t* panel = panels + p * kPanelRows * dim;
      for (std::size_t r = 0; r < kPanelRows; ++r) {
        std::uint32_t sum = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          const std::int32_t code = panel[4 * kPanelRows * (d / 4) + 4 * r + d % 4];
          sum += static_cast<std::uint32_t>(code * queries.whole[q * dim + d]);
        }
        const auto dot = static_cast<std::int32_t>(sum - static_cast<std::uint32_t>(queries.bias[q]));
        const std::size_t row = p * kPanelRows + r;
        out[q * out_stride + row] = queries.offset[q] + scales[row] * queries.step[q] * static_cast<float>(dot);
      }
    }
  }
}

std::uint32_t big_endian(const std::uint8_t* p) noexcept {
  return std::uint32_t{p[0]} << 24U | std::uint32_t{p[1]} << 16U | std::uint32_t{p[2]} << 8U | std::uint32_t{p[3]};
}

std::uint32_t rotated(std::uint32_t word, unsigned bits) noexcept { return word >> bits | word << (32U - bits); }

}  // namespace

constinit const KernelTable kKernelsScalar = {.dot_f32 = dot_f32,
                                              .matvec_f32 = matvec_f32,
                                              .matvec_wide = matvec_wide,
                                              .dot_i8 = dot_i8,
                                              .sum_rows_i8 = sum_rows_i8,
                                              .sum_rows_f32 = sum_rows_f32,
                                              .first_nonfinite_f32 = first_nonfinite_f32,
                                              .matmul_f32 = matmul_f32,
                                              .range_f32 = range_f32,
                                              .sum_exp2_f64 = sum_exp2<float>,
                                              .sum_exp2_wide = sum_exp2<double>,
                                              .sum_exp2_f32 = sum_exp2_f32,
                                              .find_at_least_f32 = find_at_least_f32,
                                              .score_panels_u8 = score_panels_u8};

void sha256_blocks_scalar(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  for (; count > 0; --count, blocks += 64) {
    std::uint32_t w[64];
    for (std::size_t t = 0; t < 16; ++t) w[t] = big_endian(blocks + 4 * t);
    for (std::size_t t = 16; t < 64; ++t) {
      const std::uint32_t before = w[t - 15];
      const std::uint32_t last = w[t - 2];
      w[t] = w[t - 16] + (rotated(before, 7) ^ rotated(before, 18) ^ before >> 3U) + w[t - 7] +
             (rotated(last, 17) ^ rotated(last, 19) ^ last >> 10U);
    }
    std::uint32_t v[8];
    for (std::size_t k = 0; k < 8; ++k) v[k] = state[k];
    auto& [a, b, c, d, e, f, g, h] = v;
    for (std::size_t t = 0; t < 64; ++t) {
      const std::uint32_t first =
          h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + kSha256Rounds[t] + w[t];
      const std::uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + first;
      d = c;
      c = b;
      b = a;
      a = first + second;
    }
    for (std::size_t k = 0; k < 8; ++k) state[k] += v[k];
  }
}

}  // namespace routellm_fast
