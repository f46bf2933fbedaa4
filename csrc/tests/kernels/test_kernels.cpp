#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "kernels/kernel_abi.hpp"

// Every kernel of every tier that this machine has, against float64 or exact integers: all lengths around the vector
// widths, several misalignments, extremes.

namespace routellm_fast {
namespace {

constexpr std::size_t kMaxLength = 4 * 64 + 3;

std::vector<float> random_floats(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(rng);
  return values;
}

std::vector<std::int8_t> random_bytes(std::mt19937& rng, std::size_t n) {
  std::uniform_int_distribution<int> uniform(-128, 127);
  std::vector<std::int8_t> values(n);
  for (std::int8_t& value : values) value = static_cast<std::int8_t>(uniform(rng));
  return values;
}

template <typename Check>
void for_each_isa(Check check) {
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    check(kernels(isa));
  }
}

TEST_CASE("dot_f32 is within the rounding bound of float64") {
  std::mt19937 rng(1);
  const std::vector<float> a = random_floats(rng, 2000);
  const std::vector<float> b = random_floats(rng, 2000);
  for_each_isa([&](const KernelTable& kernel) {
    for (std::size_t n = 0; n <= kMaxLength; ++n) {
      for (const std::size_t offset : {0U, 1U, 7U}) {
        double exact = 0.0;
        double magnitude = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
          const double product = static_cast<double>(a[offset + i]) * static_cast<double>(b[i]);
          exact += product;
          magnitude += std::abs(product);
        }
        const double bound = magnitude * static_cast<double>(n + 1) * 6e-8;
        CHECK(std::abs(static_cast<double>(kernel.dot_f32(a.data() + offset, b.data(), n)) - exact) <= bound);
      }
    }
  });
}

TEST_CASE("matvec_f32 equals dot_f32 of each row to the bit, whatever the stride") {
  std::mt19937 rng(2);
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {1U, 5U, 16U, 63U, 256U, 261U, 1536U}) {
      const std::size_t stride = dim + 3;
      const std::vector<float> rows = random_floats(rng, 9 * stride);
      const std::vector<float> x = random_floats(rng, dim);
      std::vector<float> out(9);
      kernel.matvec_f32(rows.data(), 9, stride, dim, x.data(), out.data());
      for (std::size_t r = 0; r < 9; ++r) CHECK(out[r] == kernel.dot_f32(rows.data() + r * stride, x.data(), dim));
    }
  });
}

TEST_CASE("dot_i8 is exact, also at the extremes") {
  std::mt19937 rng(3);
  const std::vector<std::int8_t> a = random_bytes(rng, 400);
  const std::vector<std::int8_t> b = random_bytes(rng, 400);
  const std::vector<std::int8_t> lowest(4096, -128);
  const std::vector<std::int8_t> highest(4096, 127);
  for_each_isa([&](const KernelTable& kernel) {
    for (std::size_t n = 0; n <= kMaxLength; ++n) {
      std::int32_t exact = 0;
      for (std::size_t i = 0; i < n; ++i) exact += a[i + 3] * b[i];
      CHECK(kernel.dot_i8(a.data() + 3, b.data(), n) == exact);
    }
    CHECK(kernel.dot_i8(lowest.data(), lowest.data(), 4096) == 4096 * 16384);
    CHECK(kernel.dot_i8(lowest.data(), highest.data(), 4096) == -4096 * 16256);
    CHECK(kernel.dot_i8(highest.data(), lowest.data(), 4096) == -4096 * 16256);
  });
}

TEST_CASE("sum_rows_i8 is exact for any dimension and more rows than an int16 holds") {
  std::mt19937 rng(4);
  constexpr std::size_t kRows = 50;
  std::uniform_int_distribution<std::uint32_t> any_row(0, kRows - 1);
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {1U, 31U, 32U, 33U, 64U, 100U, 255U, 256U, 257U, 300U, 512U, 600U}) {
      std::vector<std::int8_t> table = random_bytes(rng, kRows * dim);
      for (std::size_t d = 0; d < dim; ++d) table[7 * dim + d] = -128;
      for (const std::size_t n : {0U, 1U, 2U, 254U, 255U, 256U, 511U, 1000U}) {
        std::vector<std::uint32_t> ids(n);
        // Half of the runs repeat the lowest value, which drives the narrow sums to their limit.
        for (std::uint32_t& id : ids) id = n % 2 == 0 ? 7 : any_row(rng);
        std::vector<std::int32_t> exact(dim, 0);
        for (const std::uint32_t id : ids) {
          for (std::size_t d = 0; d < dim; ++d) exact[d] += table[id * dim + d];
        }
        std::vector<std::int32_t> out(dim + 1, -1);
        kernel.sum_rows_i8(table.data(), dim, ids.data(), n, out.data());
        CHECK(out.back() == -1);  // nothing is written behind the end
        out.pop_back();
        CHECK(out == exact);
      }
    }
  });
}

TEST_CASE("sum_rows_f32 is within the rounding bound, with and without mapping and weights") {
  std::mt19937 rng(5);
  const std::vector<std::uint32_t> rows{4, 0, 3, 3, 1, 2};
  const std::vector<std::uint32_t> ids{0, 5, 2, 2, 4, 1, 3, 0, 0};
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {1U, 15U, 16U, 17U, 64U, 127U, 128U, 200U, 256U}) {
      const std::vector<float> table = random_floats(rng, 6 * dim);
      const std::vector<float> weights = random_floats(rng, 6);
      for (const bool mapped : {false, true}) {
        for (const bool weighted : {false, true}) {
          std::vector<float> out(dim + 1, -1.0F);
          kernel.sum_rows_f32(table.data(), dim, ids.data(), ids.size(), mapped ? rows.data() : nullptr,
                              weighted ? weights.data() : nullptr, out.data());
          CHECK(out[dim] == -1.0F);
          for (std::size_t d = 0; d < dim; ++d) {
            double exact = 0.0;
            for (const std::uint32_t id : ids) {
              exact += static_cast<double>(table[(mapped ? rows[id] : id) * dim + d]) *
                       (weighted ? static_cast<double>(weights[id]) : 1.0);
            }
            CHECK(static_cast<double>(out[d]) == doctest::Approx(exact).epsilon(1e-5));
          }
        }
      }
    }
  });
}

TEST_CASE("first_nonfinite_f32 finds NaN and both infinities at every place") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t n : {0U, 1U, 8U, 16U, 33U}) {
      std::vector<float> values(n, std::numeric_limits<float>::max());
      CHECK(kernel.first_nonfinite_f32(values.data(), n) == n);
      for (std::size_t i = 0; i < n; ++i) {
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
          std::vector<float> spoilt = values;
          spoilt[i] = bad;
          CHECK(kernel.first_nonfinite_f32(spoilt.data(), n) == i);
        }
      }
    }
  });
}

TEST_CASE("matmul_f32 is within the rounding bound, and a result is the same alone and among others") {
  std::mt19937 rng(6);
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {1U, 7U, 16U, 65U, 96U, 261U, 384U}) {
      for (const std::size_t queries : {1U, 2U, 3U, 4U, 7U}) {
        for (const std::size_t count : {1U, 2U, 5U, 8U, 19U}) {
          const std::size_t stride = dim + 5;
          const std::vector<float> rows = random_floats(rng, count * stride);
          const std::vector<float> x = random_floats(rng, queries * stride);
          std::vector<float> out(queries * (count + 2), -1.0F);
          kernel.matmul_f32(rows.data(), count, stride, dim, x.data(), queries, stride, out.data(), count + 2);
          for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t r = 0; r < count; ++r) {
              double exact = 0.0;
              double magnitude = 0.0;
              for (std::size_t d = 0; d < dim; ++d) {
                const double product =
                    static_cast<double>(rows[r * stride + d]) * static_cast<double>(x[q * stride + d]);
                exact += product;
                magnitude += std::abs(product);
              }
              const float found = out[q * (count + 2) + r];
              CHECK(std::abs(static_cast<double>(found) - exact) <= magnitude * static_cast<double>(dim + 1) * 6e-8);
              float alone = 0.0F;
              kernel.matmul_f32(rows.data() + r * stride, 1, stride, dim, x.data() + q * stride, 1, stride, &alone, 1);
              CHECK(found == alone);
            }
            CHECK(out[q * (count + 2) + count] == -1.0F);
          }
        }
      }
    }
  });
}

TEST_CASE("matvec_wide adds in float64") {
  std::mt19937 rng(9);
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {1U, 7U, 8U, 31U, 32U, 100U, 1536U}) {
      const std::vector<float> rows = random_floats(rng, 3 * (dim + 1));
      const std::vector<float> x = random_floats(rng, dim);
      std::vector<double> out(4, -1.0);
      kernel.matvec_wide(rows.data(), 3, dim + 1, dim, x.data(), out.data());
      for (std::size_t r = 0; r < 3; ++r) {
        double exact = 0.0;
        double magnitude = 0.0;
        for (std::size_t d = 0; d < dim; ++d) {
          const double product = static_cast<double>(rows[r * (dim + 1) + d]) * static_cast<double>(x[d]);
          exact += product;
          magnitude += std::abs(product);
        }
        CHECK(std::abs(out[r] - exact) <= magnitude * 1e-13);
      }
      CHECK(out[3] == -1.0);
    }
  });
}

TEST_CASE("range_f32 finds the extremes at every place") {
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t n : {1U, 2U, 8U, 15U, 16U, 17U, 40U}) {
      for (std::size_t at = 0; at < n; ++at) {
        std::vector<float> values(n, 0.5F);
        values[at] = -3.0F;
        values[(at + n / 2) % n] += 4.0F;
        float low = 0.0F;
        float high = 0.0F;
        kernel.range_f32(values.data(), n, &low, &high);
        CHECK(low == *std::ranges::min_element(values));
        CHECK(high == *std::ranges::max_element(values));
      }
    }
  });
}

TEST_CASE("powers of two are exact to their bound, far below to their floor, and keep NaN") {
  std::mt19937 rng(7);
  for_each_isa([&](const KernelTable& kernel) {
    for (std::size_t n = 0; n <= 40; ++n) {
      const std::vector<float> x = random_floats(rng, n);
      std::vector<double> powers(n + 1, -1.0);
      double exact = 0.0;
      for (const float value : x) exact += std::exp2(3.3 * static_cast<double>(value) - 1.5);
      CHECK(kernel.sum_exp2_f64(x.data(), n, 3.3, 1.5, powers.data()) == doctest::Approx(exact).epsilon(1e-13));
      CHECK(kernel.sum_exp2_f64(x.data(), n, 3.3, 1.5, nullptr) == doctest::Approx(exact).epsilon(1e-13));
      const std::vector<double> wide(x.begin(), x.end());
      CHECK(kernel.sum_exp2_wide(wide.data(), n, 3.3, 1.5, nullptr) == doctest::Approx(exact).epsilon(1e-13));
      CHECK(kernel.sum_exp2_f32(x.data(), n, 3.3F, 1.5F) == doctest::Approx(exact).epsilon(1e-6));
      for (std::size_t i = 0; i < n; ++i) {
        CHECK(powers[i] == doctest::Approx(std::exp2(3.3 * static_cast<double>(x[i]) - 1.5)).epsilon(1e-13));
      }
      CHECK(powers[n] == -1.0);
    }
    const float far = -1e30F;
    CHECK(kernel.sum_exp2_f64(&far, 1, 1.0, 0.0, nullptr) == std::exp2(-1000.0));
    CHECK(kernel.sum_exp2_f32(&far, 1, 1.0F, 0.0F) == std::exp2(-100.0));
    std::vector<float> spoilt(20, 0.5F);
    spoilt[3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(kernel.sum_exp2_f64(spoilt.data(), 20, 1.0, 0.0, nullptr)));
    CHECK(std::isnan(kernel.sum_exp2_f32(spoilt.data(), 20, 1.0F, 0.0F)));
  });
}

TEST_CASE("score_panels_u8 is exact but for one rounding, also at the extremes") {
  std::mt19937 rng(8);
  std::uniform_int_distribution<int> any_code(0, 255);
  std::uniform_int_distribution<int> any_value(-16256, 16256);
  for_each_isa([&](const KernelTable& kernel) {
    for (const std::size_t dim : {4U, 8U, 64U, 100U, 256U, 1536U}) {
      for (const std::size_t panels : {1U, 3U, 4U, 5U, 9U}) {
        for (const std::size_t queries : {1U, 2U, 5U}) {
          const bool extreme = dim == 1536;
          std::vector<std::uint8_t> codes(panels * kPanelRows * dim);
          for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(extreme ? 255 : any_code(rng));
          std::vector<std::int16_t> whole(queries * dim);
          std::vector<std::int8_t> high(whole.size());
          std::vector<std::int8_t> low(whole.size());
          for (std::size_t i = 0; i < whole.size(); ++i) {
            const int largest = i % dim < 700 ? 16256 : -16256;
            const int value = extreme ? largest : any_value(rng);
            const int rounded = (value + 64) >> 7;
            whole[i] = static_cast<std::int16_t>(value);
            high[i] = static_cast<std::int8_t>(rounded);
            low[i] = static_cast<std::int8_t>(value - 128 * rounded);
          }
          const std::size_t stride = panels * kPanelRows + 3;
          const std::vector<float> scales = random_floats(rng, panels * kPanelRows);
          const std::vector<float> step = random_floats(rng, queries);
          const std::vector<float> offset = random_floats(rng, queries);
          std::vector<std::int32_t> bias(queries);
          for (std::size_t q = 0; q < queries; ++q) {
            std::int32_t sum = 0;
            for (std::size_t d = 0; d < dim; ++d) sum += whole[q * dim + d];
            bias[q] = 128 * sum;
          }
          std::vector<float> out(queries * stride, -1.0F);
          kernel.score_panels_u8(
              codes.data(), panels, dim, scales.data(),
              {whole.data(), high.data(), low.data(), bias.data(), step.data(), offset.data(), queries}, out.data(),
              stride);
          for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t r = 0; r < panels * kPanelRows; ++r) {
              std::int64_t exact = 0;
              for (std::size_t d = 0; d < dim; ++d) {
                const std::size_t place =
                    r / kPanelRows * kPanelRows * dim + 4 * kPanelRows * (d / 4) + 4 * (r % kPanelRows) + d % 4;
                exact += (static_cast<std::int64_t>(codes[place]) - 128) * whole[q * dim + d];
              }
              const auto dot = static_cast<double>(static_cast<std::int32_t>(exact));
              const double product = static_cast<double>(scales[r]) * static_cast<double>(step[q]) * dot;
              const double rounding = 3e-7 * std::abs(product) + 1e-6;
              CHECK(std::abs(static_cast<double>(out[q * stride + r]) - static_cast<double>(offset[q]) - product) <=
                    rounding);
            }
            CHECK(out[q * stride + stride - 1] == -1.0F);
          }
        }
      }
    }
  });
}

TEST_CASE("find_at_least_f32 lists in order, counts beyond the capacity, and skips NaN") {
  for_each_isa([&](const KernelTable& kernel) {
    std::vector<float> values(45, 0.0F);
    for (const std::size_t at : {0U, 7U, 8U, 16U, 31U, 44U}) values[at] = 2.0F;
    values[20] = 3.0F;
    values[21] = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::uint32_t> found(4, 99);
    CHECK(kernel.find_at_least_f32(values.data(), 45, 2.0F, found.data(), 3) == 7);
    CHECK(found == std::vector<std::uint32_t>{0, 7, 8, 99});
    CHECK(kernel.find_at_least_f32(values.data(), 45, 2.5F, found.data(), 4) == 1);
    CHECK(found[0] == 20);
    CHECK(kernel.find_at_least_f32(values.data(), 0, 0.0F, found.data(), 4) == 0);
  });
}

TEST_CASE("an unknown instruction set is refused by name") {
  CHECK_THROWS_AS((void)parse_isa("sse9"), Error);
  CHECK(parse_isa("avx512vnni") == Isa::kAvx512Vnni);
}

}  // namespace
}  // namespace routellm_fast
