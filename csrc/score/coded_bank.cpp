#include "score/coded_bank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"
#include "score/highest_similarity.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kWorkspaceFloats = std::size_t{4} << 20;  // scores kept at once: 16 MB a thread
constexpr std::size_t kTileBytes = std::size_t{256} << 10;

}  // namespace

CodedBank::CodedBank(std::shared_ptr<const SimilarityBank> bank, std::shared_ptr<const PrincipalAxes> axes,
                     std::vector<std::shared_ptr<const PanelCodes>> codes, std::span<const float> residuals,
                     Lookup lookup)
    : bank_(std::move(bank)),
      axes_(std::move(axes)),
      codes_(std::move(codes)),
      residuals_(PanelCodes::of_rows(residuals, bank_->dim())),
      lookup_(lookup) {
  bool fits = axes_->dim() == dim() && codes_.size() == bank_->blocks().size() &&
              residuals.size() == cell_count() * dim() && lookup.margin >= 0.0;
  for (std::size_t k = 0; fits && k < codes_.size(); ++k) {
    fits = codes_[k]->dim() == axes_->axis_count() &&
           codes_[k]->panels() == PanelCodes::panel_count(bank_->blocks()[k]->count());
    padded_rows_ += codes_[k]->padded_rows();
  }
  if (!fits) throw Error(ErrorCode::kInvalidArgument, "codes, axes and residuals do not fit the bank of battles.");
}

void CodedBank::score(const float* queries, std::size_t count, float* scores) const {
  thread_local QueryCoder coder;
  thread_local std::vector<float> coordinates;
  coordinates.resize(axes_->axis_count());
  coder.reset(count, axes_->axis_count());
  for (std::size_t q = 0; q < count; ++q) {
    const float offset = axes_->project(queries + q * dim(), bank_->kernels(), coordinates.data());
    coder.code(q, coordinates.data(), offset);
  }
  const CodedQueries coded = coder.queries();
  const std::size_t tile =
      std::max<std::size_t>(kTileBytes / (kPanelRows * PanelCodes::padded_dim(axes_->axis_count())), 4);
  for (const auto& codes : codes_) {
    const std::size_t step = count == 1 ? codes->panels() : tile;
    for (std::size_t first = 0; first < codes->panels(); first += step) {
      codes->score(first, std::min(step, codes->panels() - first), coded, bank_->kernels(), scores + first * kPanelRows,
                   padded_rows_);
    }
    scores += codes->padded_rows();
  }
}

float CodedBank::correct_highest(const float* query, float length, float* scores) const {
  const KernelTable& kernels = bank_->kernels();
  const float margin = static_cast<float>(lookup_.margin) * length;
  return highest_similarity(scores, padded_rows_, margin, kernels, [&](std::size_t row) {
    for (const auto& block : bank_->blocks()) {
      const std::size_t padded = PanelCodes::panel_count(block->count()) * kPanelRows;
      if (row < block->count()) return block->similarity(row, query, kernels);
      if (row < padded) break;
      row -= padded;
    }
    return -std::numeric_limits<float>::infinity();
  });
}

void CodedBank::sum(const float* queries, std::size_t count, double* sums, double* largest) const {
  const KernelTable& kernels = bank_->kernels();
  const std::size_t at_once =
      std::clamp<std::size_t>(kWorkspaceFloats / padded_rows_, 1, std::max<std::size_t>(count, 1));
  thread_local std::vector<float> scores;
  thread_local std::vector<float> left_out;
  thread_local QueryCoder coder;
  if (scores.size() < at_once * padded_rows_) scores.resize(at_once * padded_rows_);
  left_out.resize(residuals_.padded_rows());

  for (std::size_t first = 0; first < count; first += at_once) {
    const std::size_t now = std::min(at_once, count - first);
    score(queries + first * dim(), now, scores.data());
    for (std::size_t q = 0; q < now; ++q) {
      const float* const query = queries + (first + q) * dim();
      float* s = scores.data() + q * padded_rows_;
      double* const query_sums = sums + (first + q) * cell_count();
      const float length = std::sqrt(kernels.dot_f32(query, query, dim()));
      const float high = correct_highest(query, length, s);
      if (!(static_cast<double>(high) >= lookup_.reach * static_cast<double>(length)) || high <= 0.0F) {
        bank_->sum(query, 1, query_sums, largest + first + q);
        continue;
      }
      largest[first + q] = static_cast<double>(high);
      const WeightExponent exponent(0.0, static_cast<double>(high));
      std::fill_n(query_sums, cell_count(), 0.0);
      for (const auto& block : bank_->blocks()) {
        block->add_weights_f32(s, exponent.scale, exponent.shift, kernels, query_sums);
        s += PanelCodes::panel_count(block->count()) * kPanelRows;
      }
      // A weight is exponential in the similarity: so is the correction, which keeps it positive where a cell of few
      // battles leaves much out.
      coder.reset(1, dim());
      coder.code(0, query, 0.0F);
      residuals_.score(0, residuals_.panels(), coder.queries(), kernels, left_out.data(), 0);
      const double slope = std::numbers::ln10 / static_cast<double>(high);
      for (std::size_t c = 0; c < cell_count(); ++c) {
        query_sums[c] *= std::exp(slope * static_cast<double>(left_out[c]));
      }
    }
  }
}

}  // namespace routellm_fast
