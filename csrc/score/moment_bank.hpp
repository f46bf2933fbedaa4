#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.hpp"
#include "score/cell_sums.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"

namespace routellm_fast {

/// The rows of one block of a bank as codes, those of one cluster together.
struct ClusteredCodes {
  std::shared_ptr<const PanelCodes> codes;
  std::vector<std::uint32_t> first_panel;  // of each cluster, and the end
  std::vector<std::uint32_t> rows;         // of the block, for each coded row; kNoRow for padding
  std::vector<std::uint32_t> cells;        // of each coded row's first battle

  static constexpr std::uint32_t kNoRow = 0xFFFFFFFFU;
};

/// Battles as the moments of their cells, so that a query costs the same however many there are. The weight of a battle
/// is exponential in its similarity; around the bank's mean its second-order expansion needs, of each cell, the number,
/// the sum and the second moments of the embeddings only. The clusters nearest to the query are looked at row by row:
/// the largest similarity is there, and so are the battles whose weights the expansion misses most. Immutable and
/// thread-safe.
class MomentBank final : public CellSums {
 public:
  struct Moments {
    std::vector<double> battles;    // of each cell
    AlignedVector<float> sums;      // cells x dim: sum of unit embeddings less the mean
    AlignedVector<float> products;  // cells x a(a+1)/2: sums of products of the a coordinates, twice off the diagonal
  };

  /// centroids are clusters x axes; clusters are scanned, nearest first, until `scanned_rows` rows are. Throws
  /// Error(kInvalidArgument) when the parts do not fit.
  MomentBank(std::shared_ptr<const SimilarityBank> bank, std::shared_ptr<const PrincipalAxes> axes, Moments moments,
             std::span<const float> centroids, std::vector<ClusteredCodes> codes, std::size_t scanned_rows,
             Lookup lookup);

  [[nodiscard]] std::size_t dim() const noexcept override { return bank_->dim(); }
  [[nodiscard]] std::size_t cell_count() const noexcept override { return bank_->cell_count(); }

  void sum(const float* queries, std::size_t count, double* sums, double* largest) const override;

 private:
  struct Query;

  // Scores the rows of the nearest clusters and returns the largest similarity.
  [[nodiscard]] float scan(const Query& query) const;
  void expand(const Query& query, double slope, double* sums) const;
  // Puts scanned rows' own weights in the place of their expansions.
  void correct_scanned(const Query& query, double slope, double half_variance, double* sums) const;

  std::shared_ptr<const SimilarityBank> bank_;
  std::shared_ptr<const PrincipalAxes> axes_;
  Moments moments_;
  double total_battles_ = 0.0;
  AlignedVector<float> centroids_;
  std::vector<float> centroid_offsets_;  // makes a product with a query's direction a distance, but for what all share
  std::vector<ClusteredCodes> codes_;
  std::vector<std::size_t> cluster_rows_;
  std::size_t scanned_rows_;
  Lookup lookup_;
};

}  // namespace routellm_fast
