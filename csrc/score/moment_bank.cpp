#include "score/moment_bank.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"
#include "score/highest_similarity.hpp"

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
  const std::size_t clusters = centroids_.size() / axis_count;
  bool fits = axes_->dim() == dim() && moments_.battles.size() == cell_count() &&
              moments_.sums.size() == cell_count() * dim() &&
              moments_.products.size() == cell_count() * (axis_count * (axis_count + 1) / 2) && clusters > 0 &&
              centroids_.size() % axis_count == 0 && codes_.size() == bank_->blocks().size() && lookup.margin >= 0.0 &&
              scanned_rows > 0;
  cluster_rows_.assign(clusters, 0);
  for (std::size_t k = 0; fits && k < codes_.size(); ++k) {
    const ClusteredCodes& block = codes_[k];
    fits = block.codes->dim() == axis_count && block.first_panel.size() == clusters + 1 &&
           block.first_panel.front() == 0 && block.first_panel.back() == block.codes->panels() &&
           block.rows.size() == block.codes->padded_rows() && block.cells.size() == block.rows.size() &&
           std::ranges::is_sorted(block.first_panel) &&
           std::ranges::all_of(
               block.rows,
               [&](std::uint32_t row) { return row == ClusteredCodes::kNoRow || row < bank_->blocks()[k]->count(); }) &&
           std::ranges::all_of(
               block.cells, [&](std::uint32_t cell) { return cell == ClusteredCodes::kNoRow || cell < cell_count(); });
    for (std::size_t c = 0; fits && c < clusters; ++c) {
      cluster_rows_[c] += kPanelRows * (block.first_panel[c + 1] - block.first_panel[c]);
    }
  }
  if (!fits) throw Error(ErrorCode::kInvalidArgument, "moments, axes and clusters do not fit the bank of battles.");

  // Of unit embeddings the nearest is the most similar one, and rows are in the cluster whose centre is nearest to
  // them: |c - (x - m)|^2 = |x - m|^2 - 2 (c . x - c . m - |c|^2 / 2) in the axes' coordinates, m being the mean's.
  const KernelTable& kernels = bank_->kernels();
  std::vector<float> mean(axis_count);
  (void)axes_->project(axes_->mean().data(), kernels, mean.data());
  for (std::size_t c = 0; c < clusters; ++c) {
    const float* const centroid = centroids_.data() + c * axis_count;
    centroid_offsets_.push_back(kernels.dot_f32(centroid, mean.data(), axis_count) +
                                0.5F * kernels.dot_f32(centroid, centroid, axis_count));
  }
}

struct MomentBank::Query {
  const float* values;
  float length;
  const float* coordinates;
  float offset;  // product with the mean
};

namespace {

// Rows of one cluster of one block, as they lie among the scores of a scan.
struct Scanned {
  std::size_t begin;  // in the scores
  std::size_t block;
  std::size_t first_row;  // of the coded rows
  std::size_t count;
};

// What a scan leaves for the steps after it. One a thread, used again and again.
struct Scan {
  std::vector<Scanned> parts;
  std::vector<float> scores;
  std::size_t total = 0;
};

Scan& this_threads_scan() {
  thread_local Scan scan;
  return scan;
}

}  // namespace

float MomentBank::scan(const Query& query) const {
  const KernelTable& kernels = bank_->kernels();
  const std::size_t clusters = cluster_rows_.size();
  thread_local std::vector<float> nearness;
  thread_local std::vector<std::uint32_t> order;
  nearness.resize(clusters);
  order.resize(clusters);
  kernels.matvec_f32(centroids_.data(), clusters, axes_->axis_count(), axes_->axis_count(), query.coordinates,
                     nearness.data());
  for (std::size_t c = 0; c < clusters; ++c) nearness[c] = nearness[c] / query.length - centroid_offsets_[c];
  std::iota(order.begin(), order.end(), 0U);
  // A heap gives the nearest one by one: only some are wanted.
  const auto farther = [&](std::uint32_t a, std::uint32_t b) {
    return nearness[a] != nearness[b] ? nearness[a] < nearness[b] : a > b;
  };
  std::ranges::make_heap(order, farther);

  Scan& scan = this_threads_scan();
  thread_local QueryCoder coder;
  scan.parts.clear();
  scan.total = 0;
  coder.reset(1, axes_->axis_count());
  coder.code(0, query.coordinates, query.offset);
  const CodedQueries coded = coder.queries();
  for (auto end = order.end(); end != order.begin() && scan.total < scanned_rows_;) {
    std::pop_heap(order.begin(), end, farther);
    const std::uint32_t cluster = *--end;
    const std::size_t needed = scan.total + cluster_rows_[cluster];
    if (scan.scores.size() < needed) scan.scores.resize(2 * needed);
    for (std::size_t k = 0; k < codes_.size(); ++k) {
      const std::size_t first = codes_[k].first_panel[cluster];
      const std::size_t panels = codes_[k].first_panel[cluster + 1] - first;
      if (panels == 0) continue;
      codes_[k].codes->score(first, panels, coded, kernels, scan.scores.data() + scan.total, 0);
      scan.parts.push_back({scan.total, k, first * kPanelRows, panels * kPanelRows});
      scan.total += panels * kPanelRows;
    }
  }
  const float margin = static_cast<float>(lookup_.margin) * query.length;
  return highest_similarity(scan.scores.data(), scan.total, margin, kernels, [&](std::size_t index) {
    const auto after = std::ranges::upper_bound(scan.parts, index, std::less{}, &Scanned::begin);
    const Scanned& part = *std::prev(after);
    const std::uint32_t row = codes_[part.block].rows[part.first_row + index - part.begin];
    if (row == ClusteredCodes::kNoRow) return -std::numeric_limits<float>::infinity();
    return bank_->blocks()[part.block]->similarity(row, query.values, kernels);
  });
}

void MomentBank::expand(const Query& query, double slope, double* sums) const {
  const KernelTable& kernels = bank_->kernels();
  const std::size_t cells = cell_count();
  const std::size_t a = axes_->axis_count();
  const std::size_t products = a * (a + 1) / 2;
  thread_local std::vector<float> features;
  thread_local std::vector<float> first;
  thread_local std::vector<float> second;
  features.resize(products);
  first.resize(cells);
  second.resize(cells);
  std::size_t pair = 0;
  for (std::size_t i = 0; i < a; ++i) {
    for (std::size_t j = i; j < a; ++j) features[pair++] = query.coordinates[i] * query.coordinates[j];
  }
  kernels.matvec_f32(moments_.sums.data(), cells, dim(), dim(), query.values, first.data());
  kernels.matvec_f32(moments_.products.data(), cells, products, products, features.data(), second.data());

  // exp(slope * x) for x of mean 0 and variance v, up to a common factor: 1 + slope x + slope^2 (x^2 - v) / 2, the
  // first Hermite polynomials, which for a normal x is the best polynomial of that degree.
  const double variance = std::accumulate(second.begin(), second.end(), 0.0) / total_battles_;
  const double half_variance = 0.5 * slope * slope * variance;
  for (std::size_t c = 0; c < cells; ++c) {
    sums[c] = moments_.battles[c] * (1.0 - half_variance) + slope * static_cast<double>(first[c]) +
              0.5 * slope * slope * static_cast<double>(second[c]);
  }
  correct_scanned(query, slope, half_variance, sums);
  for (std::size_t c = 0; c < cells; ++c) sums[c] = std::max(sums[c], kLeastWeight * moments_.battles[c]);
}

void MomentBank::correct_scanned(const Query& query, double slope, double half_variance, double* sums) const {
  const Scan& scan = this_threads_scan();
  thread_local std::vector<double> weights;
  if (weights.size() < scan.total) weights.resize(scan.scores.size());
  const auto offset = static_cast<double>(query.offset);
  const double log2_e = std::numbers::log2e;
  (void)bank_->kernels().sum_exp2_f64(scan.scores.data(), scan.total, slope * log2_e,
                                      (slope * offset + half_variance) * log2_e, weights.data());
  for (const Scanned& part : scan.parts) {
    const std::uint32_t* const cells = codes_[part.block].cells.data() + part.first_row;
    for (std::size_t i = 0; i < part.count; ++i) {
      if (cells[i] == ClusteredCodes::kNoRow) continue;
      const double x = slope * (static_cast<double>(scan.scores[part.begin + i]) - offset);
      sums[cells[i]] += weights[part.begin + i] - (1.0 - half_variance + x + 0.5 * x * x);
    }
  }
}

void MomentBank::sum(const float* queries, std::size_t count, double* sums, double* largest) const {
  const KernelTable& kernels = bank_->kernels();
  thread_local std::vector<float> coordinates;
  coordinates.resize(axes_->axis_count());
  for (std::size_t q = 0; q < count; ++q) {
    const float* const values = queries + q * dim();
    const float length = std::sqrt(kernels.dot_f32(values, values, dim()));
    const Query query{values, length, coordinates.data(), axes_->project(values, kernels, coordinates.data())};
    const float high = scan(query);
    double* const query_sums = sums + q * cell_count();
    if (!(static_cast<double>(high) >= lookup_.reach * static_cast<double>(length)) || high <= 0.0F) {
      bank_->sum(values, 1, query_sums, largest + q);
      continue;
    }
    largest[q] = static_cast<double>(high);
    expand(query, std::numbers::ln10 / largest[q], query_sums);
  }
}

}  // namespace routellm_fast
