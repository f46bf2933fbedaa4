#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernel_abi.hpp"
#include "routellm_fast/error.hpp"
#include "routellm_fast/isa.hpp"
#include "routellm_fast/kernels.hpp"

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

TEST_CASE("an unknown instruction set is refused by name") {
  CHECK_THROWS_AS((void)parse_isa("sse9"), Error);
  CHECK(parse_isa("avx512vnni") == Isa::kAvx512Vnni);
}

}  // namespace
}  // namespace routellm_fast
