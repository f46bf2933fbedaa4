#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "kernels/kernel_abi.hpp"
#include "score/coded_bank.hpp"
#include "score/moment_bank.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"
#include "support/sample_battles.hpp"

namespace routellm_fast {
namespace {

constexpr Lookup kAlwaysCompressed{.margin = 0.05, .reach = 0.0};
constexpr Lookup kNeverCompressed{.margin = 0.05, .reach = 2.0};

template <typename Check>
void for_each_isa(Check check) {
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    check(kernels(isa));
  }
}

// Codes with the memory that they lie in.
struct Encoded {
  Encoded(const std::vector<float>& rows, std::size_t dim)
      : count(dim == 0 ? 0 : rows.size() / dim),
        padded_dim(PanelCodes::padded_dim(dim)),
        panels(PanelCodes::panel_count(count) * kPanelRows * padded_dim, 7),
        scales(PanelCodes::panel_count(count) * kPanelRows, -1.0F) {
    PanelCodes::encode(rows.data(), count, dim, panels.data(), scales.data());
  }

  [[nodiscard]] int code(std::size_t r, std::size_t d) const {
    return panels[r / kPanelRows * kPanelRows * padded_dim + 4 * kPanelRows * (d / 4) + 4 * (r % kPanelRows) + d % 4];
  }
  [[nodiscard]] double value(std::size_t r, std::size_t d) const {
    return static_cast<double>(scales[r]) * (code(r, d) - 128);
  }

  std::size_t count;
  std::size_t padded_dim;
  std::vector<std::uint8_t> panels;
  std::vector<float> scales;
};

std::shared_ptr<const PanelCodes> codes_of(const std::shared_ptr<const Encoded>& encoded, std::size_t dim) {
  return std::make_shared<PanelCodes>(encoded, encoded->panels.data(), encoded->scales, dim);
}

TEST_CASE("rows that are not finite are not coded, and queries that are not give scores that are none") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    const std::vector<float> rows{1.0F, 2.0F, 3.0F, bad};
    CHECK_THROWS_WITH_AS((void)PanelCodes::of_rows(rows, 2), doctest::Contains("in column 1: every value must be"),
                         Error);
    const PanelCodes codes = PanelCodes::of_rows(std::vector<float>{1.0F, 2.0F}, 2);
    QueryCoder coder;
    coder.reset(1, 2);
    coder.code(0, rows.data() + 2, 0.0F);
    std::vector<float> scores(codes.padded_rows());
    codes.score(0, codes.panels(), coder.queries(), kernels(active_isa()), scores.data(), scores.size());
    CHECK(std::isnan(scores.front()));
  }
}

TEST_CASE("a code is the nearest to its value, the largest of a row is an outermost one, and padding scores nothing") {
  for (const std::size_t dim : {1U, 4U, 6U, 67U}) {
    for (const std::size_t count : {1U, 15U, 16U, 33U}) {
      CAPTURE(dim);
      CAPTURE(count);
      const auto battles = sample_battles(3, count, dim, 1);
      const Encoded encoded(battles->rows, dim);
      for (std::size_t r = 0; r < encoded.scales.size(); ++r) {
        const double scale = encoded.scales[r];
        if (r >= count) {
          CHECK(scale == 0.0);
          continue;
        }
        int outermost = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          REQUIRE(std::abs(encoded.value(r, d) - static_cast<double>(battles->row(r)[d])) <= 0.5001 * scale);
          outermost = std::max(outermost, std::abs(encoded.code(r, d) - 128));
        }
        CHECK(outermost == 127);
        for (std::size_t d = dim; d < encoded.padded_dim; ++d) REQUIRE(encoded.code(r, d) == 128);
      }
    }
  }
}

TEST_CASE("rows of zeros, of one value, and of the largest and smallest ones have codes") {
  constexpr float kHuge = std::numeric_limits<float>::max();
  const std::vector<float> rows{0.0F, 0.0F, 0.0F, -3.0F, 0.0F, 3.0F, kHuge, -kHuge, kHuge / 2, 1e-30F, -1e-30F, 0.0F};
  const Encoded encoded(rows, 3);
  CHECK(encoded.scales[0] == 0.0F);
  for (std::size_t d = 0; d < 3; ++d) {
    CHECK(encoded.value(0, d) == 0.0);
    CHECK(encoded.value(1, d) == doctest::Approx(static_cast<double>(rows[3 + d])));
    CHECK(std::isfinite(encoded.value(2, d)));
    CHECK(encoded.value(3, d) == doctest::Approx(static_cast<double>(rows[9 + d])).epsilon(1e-6));
  }
}

TEST_CASE("scores are the products of decoded rows with queries of any size, within the queries' own step") {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  for (const std::size_t dim : {1U, 5U, 64U, 1536U}) {
    constexpr std::size_t kCount = 37;
    constexpr std::size_t kQueries = 6;
    const auto battles = sample_battles(6, kCount, dim, 1);
    const auto encoded = std::make_shared<const Encoded>(battles->rows, dim);
    const auto codes = codes_of(encoded, dim);
    REQUIRE(codes->panels() == 3);
    REQUIRE(codes->padded_rows() == 48);
    std::vector<std::vector<float>> queries(kQueries, std::vector<float>(dim));
    for (std::size_t d = 0; d < dim; ++d) {
      queries[0][d] = normal(rng);
      queries[1][d] = 1e30F * normal(rng);
      queries[2][d] = 1e-30F * normal(rng);
      queries[3][d] = 1.0F;  // every code at its largest: the integer sums come near their limit
      queries[4][d] = d == 0 ? 1e30F : 1e-30F;
      queries[5][d] = 0.0F;
    }
    for_each_isa([&](const KernelTable& kernel) {
      QueryCoder coder;
      coder.reset(kQueries, dim);
      for (std::size_t q = 0; q < kQueries; ++q) coder.code(q, queries[q].data(), 0.25F);
      std::vector<float> out(kQueries * 48);
      codes->score(0, 3, coder.queries(), kernel, out.data(), 48);
      std::vector<float> middle(kQueries * 16);
      codes->score(1, 1, coder.queries(), kernel, middle.data(), 16);
      for (std::size_t q = 0; q < kQueries; ++q) {
        CAPTURE(q);
        double largest = 0.0;
        for (const float value : queries[q]) largest = std::max(largest, std::abs(static_cast<double>(value)));
        const double length = length_of(queries[q].data(), dim);
        const double root = std::sqrt(static_cast<double>(encoded->padded_dim));
        const double step = std::max(largest / 16256.0, 127.0 * root * length / 2.0e9);
        for (std::size_t r = 0; r < 48; ++r) {
          if (r >= kCount) {
            REQUIRE(out[q * 48 + r] == 0.25F);
            continue;
          }
          double exact = 0.25;
          double magnitude = 0.0;
          for (std::size_t d = 0; d < dim; ++d) {
            exact += encoded->value(r, d) * static_cast<double>(queries[q][d]);
            magnitude += std::abs(encoded->value(r, d));
          }
          const double bound = 0.51 * step * magnitude + 1e-6 * (std::abs(exact) + 1.0);
          REQUIRE(std::abs(static_cast<double>(out[q * 48 + r]) - exact) <= bound);
        }
        CHECK(std::equal(middle.begin() + static_cast<std::ptrdiff_t>(q * 16),
                         middle.begin() + static_cast<std::ptrdiff_t>(q * 16 + 16),
                         out.begin() + static_cast<std::ptrdiff_t>(q * 48 + 16)));
      }
      // The coder is used again for fewer and shorter queries.
      coder.reset(1, 1);
      coder.code(0, queries[5].data(), -2.0F);
      CHECK(coder.queries().count == 1);
      CHECK(coder.queries().offset[0] == -2.0F);
      CHECK(coder.queries().bias[0] == 0);
    });
  }
}

TEST_CASE("axes give coordinates and the product with the mean") {
  const std::vector<float> mean{1.0F, 2.0F, 0.0F};
  const std::vector<float> rows{0.0F, 1.0F, 0.0F, 0.0F, 0.0F, -1.0F};
  const std::vector<float> query{3.0F, 4.0F, 5.0F};
  const PrincipalAxes axes(mean, rows);
  CHECK(axes.dim() == 3);
  CHECK(axes.axis_count() == 2);
  for_each_isa([&](const KernelTable& kernel) {
    std::vector<float> coordinates(2);
    CHECK(axes.project(query.data(), kernel, coordinates.data()) == 11.0F);
    CHECK(coordinates == std::vector<float>{4.0F, -5.0F});
  });
  CHECK_THROWS_AS(PrincipalAxes(mean, std::vector<float>(4)), Error);
  CHECK_THROWS_AS(PrincipalAxes(mean, {}), Error);
  CHECK_THROWS_AS(PrincipalAxes({}, rows), Error);
}

std::vector<float> unit_rows(const SampleBattles& battles) {
  std::vector<float> units(battles.rows);
  for (std::size_t i = 0; i < units.size(); ++i) {
    units[i] = static_cast<float>(static_cast<double>(units[i]) / battles.norms[i / battles.dim]);
  }
  return units;
}

// Orthonormal rows: those that span the samples' centres first, then any others.
std::vector<float> orthonormal_axes(std::size_t axis_count, std::size_t dim) {
  std::vector<float> axes = sample_queries(17, kSampleClusters, dim);
  const std::vector<float> others = sample_queries(18, dim, dim);
  axes.insert(axes.end(), others.begin(), others.end());
  axes.resize(axis_count * dim);
  for (std::size_t a = 0; a < axis_count; ++a) {
    float* const axis = axes.data() + a * dim;
    for (int pass = 0; pass < 2; ++pass) {  // a second time for the digits that the first one loses
      for (std::size_t b = 0; b < a; ++b) {
        double dot = 0.0;
        for (std::size_t d = 0; d < dim; ++d)
          dot += static_cast<double>(axis[d]) * static_cast<double>(axes[b * dim + d]);
        for (std::size_t d = 0; d < dim; ++d) axis[d] -= static_cast<float>(dot) * axes[b * dim + d];
      }
      const double length = length_of(axis, dim);
      for (std::size_t d = 0; d < dim; ++d) axis[d] = static_cast<float>(static_cast<double>(axis[d]) / length);
    }
  }
  return axes;
}

// A bank with all that its two compressed forms are made of, by plain loops.
struct Compression {
  Compression(Samples battles, std::size_t axes_wanted, const KernelTable& kernels)
      : samples(std::move(battles)),
        dim(samples.front()->dim),
        cell_count(samples.front()->cell_count),
        axis_count(axes_wanted),
        bank(bank_of(samples, false, kernels)),
        mean(dim, 0.0F) {
    std::size_t rows = 0;
    for (const auto& block : samples) {
      const std::vector<float> units = unit_rows(*block);
      for (std::size_t i = 0; i < units.size(); ++i) mean[i % dim] += units[i];
      rows += block->count();
    }
    for (float& value : mean) value /= static_cast<float>(rows);
    axis_rows = orthonormal_axes(axis_count, dim);
    axes = std::make_shared<PrincipalAxes>(mean, axis_rows);
  }

  [[nodiscard]] std::vector<float> centred_rows(const SampleBattles& battles) const {
    std::vector<float> rows = unit_rows(battles);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] -= mean[i % dim];
    return rows;
  }

  [[nodiscard]] std::vector<float> coordinates(const std::vector<float>& rows) const {
    std::vector<float> result;
    for (std::size_t r = 0; r < rows.size() / dim; ++r) {
      for (std::size_t a = 0; a < axis_count; ++a) {
        double dot = 0.0;
        for (std::size_t d = 0; d < dim; ++d) {
          dot += static_cast<double>(rows[r * dim + d]) * static_cast<double>(axis_rows[a * dim + d]);
        }
        result.push_back(static_cast<float>(dot));
      }
    }
    return result;
  }

  [[nodiscard]] std::vector<std::shared_ptr<const PanelCodes>> codes() const {
    std::vector<std::shared_ptr<const PanelCodes>> result;
    for (const auto& block : samples) {
      result.push_back(
          codes_of(std::make_shared<const Encoded>(coordinates(centred_rows(*block)), axis_count), axis_count));
    }
    return result;
  }

  // The mean of what axes and bytes leave out of each cell.
  [[nodiscard]] std::vector<float> residuals() const {
    std::vector<double> left(cell_count * dim, 0.0);
    std::vector<double> battles(cell_count, 0.0);
    for (const auto& block : samples) {
      const std::vector<float> rows = centred_rows(*block);
      const Encoded encoded(coordinates(rows), axis_count);
      const auto add = [&](std::size_t r, std::size_t cell, double weight) {
        battles[cell] += weight;
        for (std::size_t d = 0; d < dim; ++d) {
          double kept = 0.0;
          for (std::size_t a = 0; a < axis_count; ++a) {
            kept += encoded.value(r, a) * static_cast<double>(axis_rows[a * dim + d]);
          }
          left[cell * dim + d] += weight * (static_cast<double>(rows[r * dim + d]) - kept);
        }
      };
      for (std::size_t r = 0; r < block->count(); ++r) add(r, block->cells[r], 1.0);
      for (const Repeat& repeat : block->repeats) add(repeat.row, repeat.cell, repeat.battles);
    }
    std::vector<float> result(left.size());
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (battles[i / dim] > 0.0) result[i] = static_cast<float>(left[i] / battles[i / dim]);
    }
    return result;
  }

  [[nodiscard]] CodedBank coded(Lookup lookup) const { return {bank, axes, codes(), residuals(), lookup}; }

  [[nodiscard]] MomentBank::Moments moments() const {
    const std::size_t products = axis_count * (axis_count + 1) / 2;
    MomentBank::Moments result{std::vector<double>(cell_count, 0.0), AlignedVector<float>(cell_count * dim, 0.0F),
                               AlignedVector<float>(cell_count * products, 0.0F)};
    for (const auto& block : samples) {
      const std::vector<float> rows = centred_rows(*block);
      const std::vector<float> along = coordinates(rows);
      const auto add = [&](std::size_t r, std::size_t cell, double weight) {
        result.battles[cell] += weight;
        for (std::size_t d = 0; d < dim; ++d) {
          result.sums[cell * dim + d] += static_cast<float>(weight) * rows[r * dim + d];
        }
        float* product = result.products.data() + cell * products;  // NOLINT(misc-const-correctness): written below
        for (std::size_t i = 0; i < axis_count; ++i) {
          for (std::size_t j = i; j < axis_count; ++j) {
            const float twice = i == j ? 1.0F : 2.0F;
            *product++ += static_cast<float>(weight) * twice * along[r * axis_count + i] * along[r * axis_count + j];
          }
        }
      };
      for (std::size_t r = 0; r < block->count(); ++r) add(r, block->cells[r], 1.0);
      for (const Repeat& repeat : block->repeats) add(repeat.row, repeat.cell, repeat.battles);
    }
    return result;
  }

  [[nodiscard]] std::vector<float> centroids() const {
    std::vector<float> sums(kSampleClusters * axis_count, 0.0F);
    std::vector<float> counts(kSampleClusters, 0.0F);
    for (const auto& block : samples) {
      const std::vector<float> along = coordinates(centred_rows(*block));
      for (std::size_t i = 0; i < along.size(); ++i) {
        sums[block->clusters[i / axis_count] * axis_count + i % axis_count] += along[i];
      }
      for (const std::uint32_t cluster : block->clusters) counts[cluster] += 1.0F;
    }
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] /= std::max(counts[i / axis_count], 1.0F);
    return sums;
  }

  [[nodiscard]] std::vector<ClusteredCodes> clustered() const {
    constexpr std::uint32_t kNoRow = ClusteredCodes::kNoRow;
    std::vector<ClusteredCodes> result;
    for (const auto& block : samples) {
      const std::vector<float> along = coordinates(centred_rows(*block));
      std::vector<float> ordered;
      ClusteredCodes codes{};
      for (std::uint32_t cluster = 0; cluster < kSampleClusters; ++cluster) {
        codes.first_panel.push_back(static_cast<std::uint32_t>(codes.rows.size() / kPanelRows));
        for (std::uint32_t r = 0; r < block->count(); ++r) {
          if (block->clusters[r] != cluster) continue;
          codes.rows.push_back(r);
          codes.cells.push_back(block->cells[r]);
          const auto row = along.begin() + static_cast<std::ptrdiff_t>(r * axis_count);
          ordered.insert(ordered.end(), row, row + static_cast<std::ptrdiff_t>(axis_count));
        }
        while (codes.rows.size() % kPanelRows != 0) {
          codes.rows.push_back(kNoRow);
          codes.cells.push_back(kNoRow);
          ordered.insert(ordered.end(), axis_count, 0.0F);
        }
      }
      codes.first_panel.push_back(static_cast<std::uint32_t>(codes.rows.size() / kPanelRows));
      codes.codes = codes_of(std::make_shared<const Encoded>(ordered, axis_count), axis_count);
      result.push_back(codes);
    }
    return result;
  }

  [[nodiscard]] MomentBank moment(std::size_t scanned_rows, Lookup lookup) const {
    return {bank, axes, moments(), centroids(), clustered(), scanned_rows, lookup};
  }

  Samples samples;
  std::size_t dim;
  std::size_t cell_count;
  std::size_t axis_count;
  std::shared_ptr<const SimilarityBank> bank;
  std::vector<float> mean;
  std::vector<float> axis_rows;
  std::shared_ptr<const PrincipalAxes> axes;
};

// The samples' own prompts, said otherwise: each has a row that is much like it.
std::vector<float> like_rows(const Samples& samples, std::size_t count) {
  std::vector<float> queries = sample_queries(41, count, samples.front()->dim);
  for (std::size_t q = 0; q < count; ++q) {
    const SampleBattles& block = *samples[q % samples.size()];
    const std::size_t r = (q * 7) % block.count();
    for (std::size_t d = 0; d < block.dim; ++d) {
      float& value = queries[q * block.dim + d];
      value = 0.15F * value + block.row(r)[d] / static_cast<float>(block.norms[r]) * 3.0F;
    }
  }
  return queries;
}

struct Sums {
  std::vector<double> sums;
  std::vector<double> largest;
};

Sums sum(const CellSums& bank, std::span<const float> queries) {
  const std::size_t count = queries.size() / bank.dim();
  Sums result{std::vector<double>(count * bank.cell_count(), -1.0), std::vector<double>(count, -7.0)};
  bank.sum(queries.data(), count, result.sums.data(), result.largest.data());
  return result;
}

struct Errors {
  double share = 0.0;    // of a cell in the weights
  double largest = 0.0;  // of the largest similarity, relative
};

Errors errors_of(const CellSums& bank, const Samples& samples, const std::vector<float>& queries) {
  const Sums found = sum(bank, queries);
  Errors errors;
  for (std::size_t q = 0; q < found.largest.size(); ++q) {
    const ExactSums exact = exact_sums(samples, queries.data() + q * bank.dim());
    const auto sums = std::span(found.sums).subspan(q * bank.cell_count(), bank.cell_count());
    errors.share = std::max(errors.share, largest_difference(shares(sums), exact.shares));
    errors.largest = std::max(errors.largest, std::abs(found.largest[q] / exact.largest - 1.0));
  }
  return errors;
}

void check_batches(const CellSums& bank, const std::vector<float>& queries) {
  const Sums together = sum(bank, queries);
  for (std::size_t q = 0; q < together.largest.size(); ++q) {
    const Sums alone = sum(bank, std::span(queries).subspan(q * bank.dim(), bank.dim()));
    CHECK(alone.largest[0] == together.largest[q]);
    CHECK(std::equal(alone.sums.begin(), alone.sums.end(),
                     together.sums.begin() + static_cast<std::ptrdiff_t>(q * bank.cell_count())));
  }
}

void check_equal(const CellSums& compressed, const CellSums& exact, const std::vector<float>& queries) {
  const Sums a = sum(compressed, queries);
  const Sums b = sum(exact, queries);
  CHECK(a.largest == b.largest);
  CHECK(a.sums == b.sums);
}

constexpr std::size_t kDim = 48;
constexpr std::size_t kCells = 6;

Samples samples_of_two_blocks() {
  return {sample_battles(1, 900, kDim, kCells, 60), sample_battles(2, 77, kDim, kCells)};
}

TEST_CASE("coded banks are close to the formula, the closer the more axes they keep") {
  const Samples samples = samples_of_two_blocks();
  const std::vector<float> queries = like_rows(samples, 40);
  for_each_isa([&](const KernelTable& kernel) {
    double coarser = 1.0;
    for (const auto& [axis_count, bound] : {std::pair{std::size_t{42}, 1e-2}, std::pair{kDim, 1e-4}}) {
      CAPTURE(axis_count);
      const CodedBank bank = Compression(samples, axis_count, kernel).coded({.margin = 0.2, .reach = 0.0});
      const Errors errors = errors_of(bank, samples, queries);
      CHECK(errors.largest < 1e-5);
      CHECK(errors.share < std::min(bound, coarser));
      coarser = errors.share;
    }
  });
}

TEST_CASE("moment banks are close to the formula, and closer the more rows they scan") {
  const Samples samples = samples_of_two_blocks();
  const std::vector<float> queries = like_rows(samples, 40);
  for_each_isa([&](const KernelTable& kernel) {
    const Compression parts(samples, kDim, kernel);
    const Errors one_cluster = errors_of(parts.moment(1, kAlwaysCompressed), samples, queries);
    const Errors all_rows = errors_of(parts.moment(100'000, kAlwaysCompressed), samples, queries);
    CHECK(one_cluster.largest < 1e-5);
    CHECK(one_cluster.share < 1e-2);
    CHECK(all_rows.largest < 1e-5);
    CHECK(all_rows.share < std::min(4e-3, one_cluster.share));  // repeats stay with the expansion
  });
}

TEST_CASE("a query's sums are the same alone and among others, bitwise, in compressed banks") {
  const Samples samples = samples_of_two_blocks();
  const std::vector<float> queries = like_rows(samples, 13);
  for_each_isa([&](const KernelTable& kernel) {
    const Compression parts(samples, 18, kernel);
    check_batches(parts.coded({.margin = 0.2, .reach = 0.9}), queries);  // some queries go to the bank itself
    check_batches(parts.moment(50, {.margin = 0.2, .reach = 0.9}), queries);
  });
}

TEST_CASE("queries below reach, and those unlike every battle, are answered by the bank itself") {
  const Samples samples = samples_of_two_blocks();
  const std::vector<float> queries = like_rows(samples, 9);
  std::vector<float> opposite(kDim, 0.0F);
  for (const auto& battles : samples) {
    for (std::size_t r = 0; r < battles->count(); ++r) {
      for (std::size_t d = 0; d < kDim; ++d) opposite[d] -= battles->row(r)[d] / static_cast<float>(battles->norms[r]);
    }
  }
  for_each_isa([&](const KernelTable& kernel) {
    const Compression parts(samples, 12, kernel);
    check_equal(parts.coded(kNeverCompressed), *parts.bank, queries);
    check_equal(parts.moment(100, kNeverCompressed), *parts.bank, queries);
    REQUIRE(sum(*parts.bank, opposite).largest[0] < 0.0);
    check_equal(parts.coded(kAlwaysCompressed), *parts.bank, opposite);
    check_equal(parts.moment(100'000, kAlwaysCompressed), *parts.bank, opposite);
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    check_equal(parts.coded({.margin = 0.1, .reach = kNan}), *parts.bank, queries);
  });
}

TEST_CASE("padding is never taken for the most similar battle") {
  // With a mean that is longer than any embedding, padding scores higher than every row; with one that is a little
  // longer than the most similar row, among them.
  const Samples samples{sample_battles(5, 17, kDim, kCells)};
  for_each_isa([&](const KernelTable& kernel) {
    for (const float length : {0.9F, 1.0F, 1.01F, 1.1F, 3.0F}) {
      CAPTURE(length);
      Compression parts(samples, kDim, kernel);
      std::vector<float> query = unit_rows(*samples[0]);
      query.resize(kDim);
      for (std::size_t d = 0; d < kDim; ++d) parts.mean[d] = length * query[d];
      parts.axes = std::make_shared<PrincipalAxes>(parts.mean, parts.axis_rows);
      const double highest = sum(*parts.bank, query).largest[0];
      CHECK(highest == doctest::Approx(1.0));
      CHECK(sum(parts.coded({.margin = 0.05, .reach = 0.0}), query).largest[0] == highest);
      CHECK(sum(parts.moment(100'000, {.margin = 0.05, .reach = 0.0}), query).largest[0] == highest);
    }
  });
}

TEST_CASE("many rows as similar as the highest are looked up in part, and give its similarity") {
  auto same = std::make_shared<SampleBattles>(*sample_battles(5, 200, kDim, kCells));
  for (std::size_t r = 1; r < 200; ++r) {
    std::copy_n(same->row(0), kDim, same->rows.begin() + static_cast<std::ptrdiff_t>(r * kDim));
    same->norms[r] = same->norms[0];
  }
  const std::vector<float> queries = like_rows({same}, 3);
  for_each_isa([&](const KernelTable& kernel) {
    const Compression parts({same}, kDim, kernel);
    for (const Errors& errors : {errors_of(parts.coded(kAlwaysCompressed), {same}, queries),
                                 errors_of(parts.moment(10, kAlwaysCompressed), {same}, queries)}) {
      CHECK(errors.largest < 1e-5);
      CHECK(errors.share < 1e-4);
    }
  });
}

TEST_CASE("no cell of a compressed bank weighs less than nothing, however much its codes leave out") {
  // The last cell is one battle that the axes know nothing of, and that the queries are opposite to.
  auto battles = std::make_shared<SampleBattles>(*sample_battles(6, 64, kDim, kCells));
  const std::vector<float> others = orthonormal_axes(kDim, kDim);
  const float* const unknown = others.data() + (kDim - 1) * kDim;
  battles->cells.back() = kCells - 1;
  for (std::size_t r = 0; r + 1 < battles->count(); ++r)
    battles->cells[r] = static_cast<std::uint32_t>(r % (kCells - 1));
  std::copy_n(unknown, kDim, battles->rows.end() - static_cast<std::ptrdiff_t>(kDim));
  battles->norms.back() = 1.0;
  std::vector<float> queries = like_rows({battles}, 20);
  for (std::size_t i = 0; i < queries.size(); ++i) queries[i] -= 2.5F * unknown[i % kDim];
  for_each_isa([&](const KernelTable& kernel) {
    const Compression parts({battles}, 8, kernel);
    const CodedBank coded = parts.coded({.margin = 0.5, .reach = 0.0});
    const MomentBank moment = parts.moment(16, {.margin = 0.5, .reach = 0.0});
    for (const double value : sum(coded, queries).sums) CHECK(value > 0.0);
    for (const double value : sum(moment, queries).sums) CHECK(value > 0.0);
  });
}

TEST_CASE("parts that do not fit a coded bank are refused") {
  const Samples samples = samples_of_two_blocks();
  const Compression parts(samples, 12, kernels(active_isa()));
  const Compression others({samples[0]}, 8, kernels(active_isa()));
  const auto build = [&](const auto& axes, auto codes, std::vector<float> residuals, double margin = 0.1) {
    return CodedBank(parts.bank, axes, std::move(codes), residuals, {.margin = margin, .reach = 0.0});
  };
  CHECK_NOTHROW(build(parts.axes, parts.codes(), parts.residuals()));
  CHECK_THROWS_AS(build(others.axes, parts.codes(), parts.residuals()), Error);
  CHECK_THROWS_AS(build(parts.axes, others.codes(), parts.residuals()), Error);
  CHECK_THROWS_AS(build(parts.axes, parts.codes(), others.mean), Error);
  CHECK_THROWS_AS(build(parts.axes, parts.codes(), parts.residuals(), -0.1), Error);
  CHECK_THROWS_AS(build(parts.axes, parts.codes(), parts.residuals(), std::numeric_limits<double>::quiet_NaN()), Error);
  auto swapped = parts.codes();
  std::swap(swapped[0], swapped[1]);
  CHECK_THROWS_AS(build(parts.axes, swapped, parts.residuals()), Error);
  const auto short_axes = std::make_shared<PrincipalAxes>(std::vector<float>(kDim / 2), std::vector<float>(6 * kDim));
  CHECK_THROWS_AS(build(short_axes, parts.codes(), parts.residuals()), Error);
}

TEST_CASE("parts that do not fit a moment bank are refused") {
  const Samples samples = samples_of_two_blocks();
  const Compression parts(samples, 12, kernels(active_isa()));
  const auto refused = [&](auto spoil) {
    MomentBank::Moments moments = parts.moments();
    std::vector<float> centroids = parts.centroids();
    std::vector<ClusteredCodes> codes = parts.clustered();
    std::size_t scanned_rows = 100;
    Lookup lookup{.margin = 0.1, .reach = 0.0};
    spoil(moments, centroids, codes, scanned_rows, lookup);
    CHECK_THROWS_AS(MomentBank(parts.bank, parts.axes, moments, centroids, codes, scanned_rows, lookup), Error);
  };
  refused([](auto& moments, auto&...) { moments.battles.pop_back(); });
  refused([](auto& moments, auto&...) { moments.sums.pop_back(); });
  refused([](auto& moments, auto&...) { moments.products.pop_back(); });
  refused([](auto&, auto& centroids, auto&...) { centroids.pop_back(); });
  refused([](auto&, auto& centroids, auto&...) { centroids.clear(); });
  refused([](auto&, auto&, auto& codes, auto&...) { codes.pop_back(); });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[0].first_panel.pop_back(); });
  refused([](auto&, auto&, auto& codes, auto&...) { std::swap(codes[0].first_panel[0], codes[0].first_panel[2]); });
  refused([](auto&, auto&, auto& codes, auto&...) { ++codes[1].first_panel.back(); });
  refused([](auto&, auto&, auto& codes, auto&...) { ++codes[1].first_panel.front(); });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[0].rows.pop_back(); });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[1].rows[0] = 77; });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[0].cells.pop_back(); });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[0].cells[0] = kCells; });
  refused([](auto&, auto&, auto& codes, auto&...) { codes[0].codes = codes[1].codes; });
  refused([](auto&, auto&, auto&, auto& scanned_rows, auto&) { scanned_rows = 0; });
  refused([](auto&, auto&, auto&, auto&, auto& lookup) { lookup.margin = -1.0; });
  const auto foreign = std::make_shared<PrincipalAxes>(std::vector<float>(kDim / 2), std::vector<float>(6 * kDim));
  CHECK_THROWS_AS(
      MomentBank(parts.bank, foreign, parts.moments(), parts.centroids(), parts.clustered(), 100, kAlwaysCompressed),
      Error);
}

}  // namespace
}  // namespace routellm_fast
