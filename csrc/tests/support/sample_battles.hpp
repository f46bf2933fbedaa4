#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "dispatch/kernels.hpp"
#include "score/similarity_bank.hpp"

namespace routellm_fast {

/// Battles on made-up prompts: rows of every length around a few centres, so that similarities differ as those of
/// prompts do. Rows of one cell lie together.
struct SampleBattles {
  std::size_t dim;
  std::size_t cell_count;
  std::vector<float> rows;
  std::vector<double> norms;
  std::vector<std::uint32_t> cells;
  std::vector<std::uint32_t> clusters;  // the centre that each row is near
  std::vector<Repeat> repeats;

  [[nodiscard]] std::size_t count() const { return cells.size(); }
  [[nodiscard]] const float* row(std::size_t r) const { return rows.data() + r * dim; }
};

inline double length_of(const float* x, std::size_t dim) {
  double square = 0.0;
  for (std::size_t d = 0; d < dim; ++d) square += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  return std::sqrt(square);
}

inline constexpr std::size_t kSampleClusters = 4;

/// Values about 1: what a scorer makes of any embedding.
inline std::vector<float> sample_queries(unsigned seed, std::size_t count, std::size_t dim) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.15F, 0.5F);
  std::vector<float> queries(count * dim);
  for (float& value : queries) value = normal(rng);
  return queries;
}

inline std::shared_ptr<SampleBattles> sample_battles(unsigned seed, std::size_t count, std::size_t dim,
                                                     std::size_t cell_count, std::size_t repeats = 0) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> any_length(0.1F, 10.0F);
  const std::vector<float> centres = sample_queries(17, kSampleClusters, dim);  // shared by every sample of this dim
  auto battles = std::make_shared<SampleBattles>(SampleBattles{
      .dim = dim, .cell_count = cell_count, .rows = {}, .norms = {}, .cells = {}, .clusters = {}, .repeats = {}});
  for (std::size_t r = 0; r < count; ++r) {
    const std::size_t cluster = rng() % kSampleClusters;
    const float length = any_length(rng);
    for (std::size_t d = 0; d < dim; ++d) {
      battles->rows.push_back(length * (centres[cluster * dim + d] + 0.3F * normal(rng)));
    }
    battles->norms.push_back(length_of(battles->row(r), dim));
    battles->cells.push_back(static_cast<std::uint32_t>(r * cell_count / count));
    battles->clusters.push_back(static_cast<std::uint32_t>(cluster));
  }
  for (std::size_t k = 0; k < repeats; ++k) {
    battles->repeats.push_back({static_cast<std::uint32_t>(rng() % count),
                                static_cast<std::uint32_t>(rng() % cell_count), static_cast<double>(1 + rng() % 3)});
  }
  return battles;
}

inline std::shared_ptr<const BankBlock> block_of(const std::shared_ptr<const SampleBattles>& battles) {
  return std::make_shared<BankBlock>(battles, battles->rows.data(), battles->dim, battles->norms, battles->cells,
                                     battles->repeats, battles->cell_count);
}

using Samples = std::vector<std::shared_ptr<const SampleBattles>>;

inline std::shared_ptr<const SimilarityBank> bank_of(const Samples& samples, bool wide, const KernelTable& kernels) {
  SimilarityBank::Blocks blocks;
  for (const auto& battles : samples) blocks.push_back(block_of(battles));
  return std::make_shared<SimilarityBank>(samples.front()->dim, samples.front()->cell_count, blocks, wide, kernels);
}

/// Scaled to a sum of one: sums are given up to a factor.
inline std::vector<double> shares(std::span<const double> sums) {
  double total = 0.0;
  for (const double sum : sums) total += sum;
  std::vector<double> result(sums.begin(), sums.end());
  for (double& share : result) share /= total;
  return result;
}

struct ExactSums {
  std::vector<double> shares;
  double largest;  // cosine times the query's length
};

/// The formula, battle by battle in float64.
inline ExactSums exact_sums(const Samples& samples, const float* query) {
  const std::size_t dim = samples.front()->dim;
  ExactSums exact{std::vector<double>(samples.front()->cell_count, 0.0), -std::numeric_limits<double>::infinity()};
  std::vector<std::vector<double>> similarities;
  for (const auto& battles : samples) {
    std::vector<double>& s = similarities.emplace_back();
    for (std::size_t r = 0; r < battles->count(); ++r) {
      double dot = 0.0;
      for (std::size_t d = 0; d < dim; ++d) {
        dot += static_cast<double>(battles->row(r)[d]) * static_cast<double>(query[d]);
      }
      s.push_back(dot / length_of(battles->row(r), dim));
      exact.largest = std::max(exact.largest, s.back());
    }
  }
  double heaviest = -std::numeric_limits<double>::infinity();  // exponent of the heaviest battle: keeps all in range
  for (const auto& s : similarities) {
    for (const double value : s) heaviest = std::max(heaviest, value / exact.largest);
  }
  for (std::size_t k = 0; k < samples.size(); ++k) {
    const auto weight = [&](std::size_t r) { return std::pow(10.0, similarities[k][r] / exact.largest - heaviest); };
    for (std::size_t r = 0; r < samples[k]->count(); ++r) exact.shares[samples[k]->cells[r]] += weight(r);
    for (const Repeat& repeat : samples[k]->repeats) exact.shares[repeat.cell] += repeat.battles * weight(repeat.row);
  }
  exact.shares = shares(exact.shares);
  return exact;
}

inline double largest_difference(std::span<const double> a, std::span<const double> b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace routellm_fast
