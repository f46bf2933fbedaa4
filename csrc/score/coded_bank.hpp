#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.hpp"
#include "score/cell_sums.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"

namespace routellm_fast {

/// Battles as one byte for each of their first principal coordinates: a fraction of the bank is read. The largest
/// similarity, by which all weights are divided, is taken from the bank itself, among the rows that score highest; what
/// axes and bytes leave out of each cell is put back on average. Immutable and thread-safe.
class CodedBank final : public CellSums {
 public:
  /// codes[k] are the unit rows of the bank's block k in the axes' coordinates. `residuals` are cell_count() x dim():
  /// the mean of what the codes leave out of the cell's unit embeddings. Throws Error(kInvalidArgument) when the parts
  /// do not fit.
  CodedBank(std::shared_ptr<const SimilarityBank> bank, std::shared_ptr<const PrincipalAxes> axes,
            std::vector<std::shared_ptr<const PanelCodes>> codes, std::span<const float> residuals, Lookup lookup);

  [[nodiscard]] std::size_t dim() const noexcept override { return bank_->dim(); }
  [[nodiscard]] std::size_t cell_count() const noexcept override { return bank_->cell_count(); }

  void sum(const float* queries, std::size_t count, double* sums, double* largest) const override;

 private:
  void score(const float* queries, std::size_t count, float* scores) const;
  // Replaces the highest scores by exact similarities and returns the largest of those.
  [[nodiscard]] float correct_highest(const float* query, float length, float* scores) const;

  std::shared_ptr<const SimilarityBank> bank_;
  std::shared_ptr<const PrincipalAxes> axes_;
  std::vector<std::shared_ptr<const PanelCodes>> codes_;
  PanelCodes residuals_;  // a correction of a correction: a byte a value is plenty
  Lookup lookup_;
  std::size_t padded_rows_ = 0;
};

}  // namespace routellm_fast
