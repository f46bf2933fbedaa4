#include "routellm_fast/moment_bank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "highest_similarity.hpp"
#include "kernel_abi.hpp"
#include "routellm_fast/error.hpp"

namespace routellm_fast {
namespace {

// The expansion is no longer positive far from the mean, where a small cell may lie as a whole. No battle weighs less,
// against one of average similarity, than this.
constexpr double kLeastWeight = 0.05;

}  // namespace

MomentBank::MomentBank(std::shared_ptr<const SimilarityBank> bank, std::shared_ptr<const PrincipalAxes> axes,
                       Moments moments, std::span<const float> centroids, std::vector<ClusteredCodes> codes,
                       std::size_t scanned_rows, Lookup lookup)
    : bank_(std::move(bank)),
      axes_(std::move(axes)),
      moments_(std::move(moments)),
      total_battles_(std::accumulate(moments_.battles.begin(), moments_.battles.end(), 0.0)),
      centroids_(centroids.begin(), centroids.end()),
      codes_(std::move(codes)),
      scanned_rows_(scanned_rows),
      lookup_(lookup) {
  const std::size_t axis_count = axes_->axis_count();
  const std::size_t a = moments_.product_axes;
  const std::size_t clusters = centroids_.size() / axis_count;
  bool fits = axes_->dim() == dim() && a <= axis_count && moments_.battles.size() == cell_count() &&
              moments_.sums.size() == cell_count() * dim() &&
              moments_.products.size() == cell_count() * (a * (a + 1) / 2) && clusters > 0 &&
              centroids_.size() % axis_count == 0 && codes_.size() == bank_->blocks().size() && lookup.margin >= 0.0;
  cluster_rows_.assign(clusters, 0);
  for (std::size_t k = 0; fits && k < codes_.size(); ++k) {
    const ClusteredCodes& block = codes_[k];
    fits = block.codes->dim() == axis_count && block.first_panel.size() == clusters + 1 &&
           block.first_panel.back() == block.codes->panels() && block.rows.size() == block.codes->padded_rows() &&
           std::is_sorted(block.first_panel.begin(), block.first_panel.end()) &&
           std::all_of(block.rows.begin(), block.rows.end(), [&](std::uint32_t row) {
             return row == ClusteredCodes::kNoRow || row < bank_->blocks()[k]->count();
           });
    for (std::size_t c = 0; fits && c < clusters; ++c) {
      cluster_rows_[c] += kPanelRows * (block.first_panel[c + 1] - block.first_panel[c]);
    }
  }
  if (!fits) throw Error(ErrorCode::kInvalidArgument, "moments, axes and clusters do not fit the bank of battles.");
}

float MomentBank::largest_similarity(const float* query, float length, const float* coordinates, float offset) const {
  const KernelTable& kernels = bank_->kernels();
  const std::size_t clusters = cluster_rows_.size();
  thread_local std::vector<float> nearness;
  thread_local std::vector<std::uint32_t> order;
  nearness.resize(clusters);
  order.resize(clusters);
  kernels.matvec_f32(centroids_.data(), clusters, axes_->axis_count(), axes_->axis_count(), coordinates,
                     nearness.data());
  std::iota(order.begin(), order.end(), 0U);
  const auto nearer = [&](std::uint32_t a, std::uint32_t b) {
    return nearness[a] != nearness[b] ? nearness[a] > nearness[b] : a < b;
  };
  // A heap gives the nearest one by one: only some are wanted.
  const auto farther = [&](std::uint32_t a, std::uint32_t b) { return nearer(b, a); };
  std::make_heap(order.begin(), order.end(), farther);

  struct Scanned {
    std::size_t begin;  // in the scores
    std::size_t block;
    std::size_t first_row;  // of the coded rows
  };
  thread_local std::vector<Scanned> scanned;
  thread_local std::vector<float> scores;
  thread_local QueryCoder coder;
  scanned.clear();
  coder.reset(1, axes_->axis_count());
  coder.code(0, coordinates, offset);
  const CodedQueries coded = coder.queries();
  std::size_t total = 0;
  for (auto end = order.end(); end != order.begin() && total < scanned_rows_;) {
    std::pop_heap(order.begin(), end, farther);
    const std::uint32_t cluster = *--end;
    if (scores.size() < total + cluster_rows_[cluster]) scores.resize(2 * (total + cluster_rows_[cluster]));
    for (std::size_t k = 0; k < codes_.size(); ++k) {
      const std::size_t first = codes_[k].first_panel[cluster];
      const std::size_t panels = codes_[k].first_panel[cluster + 1] - first;
      if (panels == 0) continue;
      codes_[k].codes->score(first, panels, coded, kernels, scores.data() + total, 0);
      scanned.push_back({total, k, first * kPanelRows});
      total += panels * kPanelRows;
    }
  }
  const float margin = static_cast<float>(lookup_.margin) * length;
  return highest_similarity(scores.data(), total, margin, kernels, [&](std::size_t index) {
    const auto after = std::upper_bound(scanned.begin(), scanned.end(), index,
                                        [](std::size_t i, const Scanned& part) { return i < part.begin; });
    const Scanned& part = *std::prev(after);
    const std::uint32_t row = codes_[part.block].rows[part.first_row + index - part.begin];
    if (row == ClusteredCodes::kNoRow) return -std::numeric_limits<float>::infinity();
    return bank_->blocks()[part.block]->similarity(row, query, kernels);
  });
}

void MomentBank::expand(const float* query, const float* coordinates, double largest, double* sums) const {
  const KernelTable& kernels = bank_->kernels();
  const std::size_t cells = cell_count();
  const std::size_t a = moments_.product_axes;
  const std::size_t products = a * (a + 1) / 2;
  thread_local std::vector<float> features;
  thread_local std::vector<float> first;
  thread_local std::vector<float> second;
  features.resize(products);
  first.resize(cells);
  second.resize(cells);
  float* feature = features.data();
  for (std::size_t i = 0; i < a; ++i) {
    for (std::size_t j = i; j < a; ++j) *feature++ = coordinates[i] * coordinates[j];
  }
  kernels.matvec_f32(moments_.sums.data(), cells, dim(), dim(), query, first.data());
  kernels.matvec_f32(moments_.products.data(), cells, products, products, features.data(), second.data());

  // exp(slope * x) for x of mean 0 and variance v, up to a common factor: 1 + slope x + slope^2 (x^2 - v) / 2, the first
  // Hermite polynomials, which for a normal x is the best polynomial of that degree.
  const double slope = std::numbers::ln10 / largest;
  const double variance = std::accumulate(second.begin(), second.end(), 0.0) / total_battles_;
  const double constant = 1.0 - 0.5 * slope * slope * variance;
  for (std::size_t c = 0; c < cells; ++c) {
    const double expanded = moments_.battles[c] * constant + slope * static_cast<double>(first[c]) +
                            0.5 * slope * slope * static_cast<double>(second[c]);
    sums[c] = std::max(expanded, kLeastWeight * moments_.battles[c]);
  }
}

void MomentBank::sum(const float* queries, std::size_t count, double* sums, double* largest) const {
  thread_local std::vector<float> coordinates;
  coordinates.resize(axes_->axis_count());
  for (std::size_t q = 0; q < count; ++q) {
    const float* const query = queries + q * dim();
    const float offset = axes_->project(query, bank_->kernels(), coordinates.data());
    const float length = std::sqrt(bank_->kernels().dot_f32(query, query, dim()));
    const float high = largest_similarity(query, length, coordinates.data(), offset);
    double* const query_sums = sums + q * cell_count();
    if (!(static_cast<double>(high) >= lookup_.reach * static_cast<double>(length)) || high <= 0.0F) {
      bank_->sum(query, 1, query_sums, largest + q);
      continue;
    }
    largest[q] = static_cast<double>(high);
    expand(query, coordinates.data(), largest[q], query_sums);
  }
}

}  // namespace routellm_fast
