#include "score/similarity_bank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kWorkspaceFloats = std::size_t{4} << 20;  // similarities kept at once: 16 MB a thread
constexpr std::size_t kTileBytes = std::size_t{256} << 10;      // rows that several queries share, out of the cache

double sum_exp2(const KernelTable& kernels, const float* x, std::size_t n, double scale, double shift, double* powers) {
  return kernels.sum_exp2_f64(x, n, scale, shift, powers);
}

double sum_exp2(const KernelTable& kernels, const double* x, std::size_t n, double scale, double shift,
                double* powers) {
  return kernels.sum_exp2_wide(x, n, scale, shift, powers);
}

}  // namespace

WeightExponent::WeightExponent(double smallest, double largest) noexcept
    : scale(std::numbers::ln10 / std::numbers::ln2 / largest), shift(scale * (largest > 0.0 ? largest : smallest)) {}

BankBlock::BankBlock(std::shared_ptr<const void> owner, const float* rows, std::size_t dim,
                     std::span<const double> norms, std::span<const std::uint32_t> row_cells,
                     std::vector<Repeat> repeats, std::size_t cell_count)
    : owner_(std::move(owner)),
      rows_(rows),
      dim_(dim),
      cell_count_(cell_count),
      count_(row_cells.size()),
      repeats_(std::move(repeats)) {
  if (norms.size() != count_) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(count_) + " rows have " + std::to_string(norms.size()) + " lengths.");
  }
  inverse_norms_.reserve(count_);
  for (const double norm : norms) {
    if (!(norm > 0.0) || !std::isfinite(norm)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "an embedding's length must be positive, found " + std::to_string(norm) + ".");
    }
    inverse_norms_.push_back(1.0 / norm);
  }
  const auto check = [cell_count](std::uint32_t cell) {
    if (cell >= cell_count) {
      throw Error(ErrorCode::kInvalidArgument, "a battle belongs to cell " + std::to_string(cell) + ", there are " +
                                                   std::to_string(cell_count) + ".");
    }
  };
  for (std::size_t r = 0; r < count_; ++r) {
    check(row_cells[r]);
    if (runs_.empty() || runs_.back().cell != row_cells[r]) {
      runs_.push_back({static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(r), row_cells[r]});
    }
    ++runs_.back().end;
  }
  for (const Repeat& repeat : repeats_) {
    check(repeat.cell);
    if (repeat.row >= count_) {
      throw Error(ErrorCode::kInvalidArgument, "a battle belongs to row " + std::to_string(repeat.row) +
                                                   ", there are " + std::to_string(count_) + ".");
    }
  }
}

float BankBlock::similarity(std::size_t r, const float* query, const KernelTable& kernels) const noexcept {
  float dot = 0.0F;
  kernels.matmul_f32(row(r), 1, dim_, dim_, query, 1, dim_, &dot, 1);
  return static_cast<float>(static_cast<double>(dot) * inverse_norms_[r]);
}

template <typename T>
void BankBlock::divide_by_norms(T* dots) const noexcept {
  for (std::size_t r = 0; r < count_; ++r) dots[r] = static_cast<T>(static_cast<double>(dots[r]) * inverse_norms_[r]);
}

template void BankBlock::divide_by_norms(float*) const noexcept;

template <typename T>
void BankBlock::add_weights(const T* s, double scale, double shift, const KernelTable& kernels, double* sums) const {
  thread_local std::vector<double> weights;
  if (!repeats_.empty() && weights.size() < count_) weights.resize(count_);
  for (const Run& run : runs_) {
    double* const run_weights = repeats_.empty() ? nullptr : weights.data() + run.begin;
    sums[run.cell] += sum_exp2(kernels, s + run.begin, run.end - run.begin, scale, shift, run_weights);
  }
  for (const Repeat& repeat : repeats_) sums[repeat.cell] += repeat.battles * weights[repeat.row];
}

void BankBlock::add_weights_f32(const float* s, double scale, double shift, const KernelTable& kernels,
                                double* sums) const {
  if (!repeats_.empty()) {
    add_weights(s, scale, shift, kernels, sums);
    return;
  }
  for (const Run& run : runs_) {
    sums[run.cell] +=
        kernels.sum_exp2_f32(s + run.begin, run.end - run.begin, static_cast<float>(scale), static_cast<float>(shift));
  }
}

SimilarityBank::SimilarityBank(std::size_t dim, std::size_t cell_count, Blocks blocks, bool wide,
                               const KernelTable& kernels)
    : dim_(dim), cell_count_(cell_count), blocks_(std::move(blocks)), wide_(wide), kernels_(&kernels) {
  for (const auto& block : blocks_) {
    row_count_ += block->count();
    if (block->dim() != dim_ || block->cell_count() > cell_count_) {
      throw Error(ErrorCode::kInvalidArgument, "a block of " + std::to_string(block->dim()) + " dimensions and " +
                                                   std::to_string(block->cell_count()) +
                                                   " cells does not fit a bank of " + std::to_string(dim_) + " and " +
                                                   std::to_string(cell_count_) + ".");
    }
  }
  if (row_count_ == 0) throw Error(ErrorCode::kInvalidArgument, "a bank needs at least one battle.");
}

void SimilarityBank::sum(const float* queries, std::size_t count, double* sums, double* largest) const {
  if (wide_) {
    sum_wide(queries, count, sums, largest);
    return;
  }
  const std::size_t at_once = std::clamp<std::size_t>(kWorkspaceFloats / row_count_, 1, count == 0 ? 1 : count);
  thread_local std::vector<float> similarities;
  if (similarities.size() < at_once * row_count_) similarities.resize(at_once * row_count_);
  const std::size_t tile_rows = std::max<std::size_t>(kTileBytes / (dim_ * sizeof(float)), 2);

  for (std::size_t first = 0; first < count; first += at_once) {
    const std::size_t now = std::min(at_once, count - first);
    const float* const query = queries + first * dim_;
    std::size_t offset = 0;
    for (const auto& block : blocks_) {
      float* const out = similarities.data() + offset;
      for (std::size_t begin = 0; begin < block->count(); begin += tile_rows) {
        const std::size_t rows = std::min(tile_rows, block->count() - begin);
        kernels_->matmul_f32(block->row(begin), rows, dim_, dim_, query, now, dim_, out + begin, row_count_);
      }
      offset += block->count();
    }
    for (std::size_t q = 0; q < now; ++q) {
      float* const s = similarities.data() + q * row_count_;
      divide_by_norms(s);
      float low = 0.0F;
      float high = 0.0F;
      kernels_->range_f32(s, row_count_, &low, &high);
      largest[first + q] = static_cast<double>(high);
      finish(s, static_cast<double>(low), static_cast<double>(high), sums + (first + q) * cell_count_);
    }
  }
}

void SimilarityBank::sum_wide(const float* queries, std::size_t count, double* sums, double* largest) const {
  thread_local std::vector<double> similarities;
  if (similarities.size() < row_count_) similarities.resize(row_count_);
  for (std::size_t q = 0; q < count; ++q) {
    double* out = similarities.data();
    for (const auto& block : blocks_) {
      kernels_->matvec_wide(block->row(0), block->count(), dim_, dim_, queries + q * dim_, out);
      out += block->count();
    }
    divide_by_norms(similarities.data());
    const auto [low, high] = std::minmax_element(similarities.data(), out);
    largest[q] = *high;
    finish(similarities.data(), *low, *high, sums + q * cell_count_);
  }
}

template <typename T>
void SimilarityBank::divide_by_norms(T* dots) const noexcept {
  for (const auto& block : blocks_) {
    block->divide_by_norms(dots);
    dots += block->count();
  }
}

template <typename T>
void SimilarityBank::finish(const T* s, double low, double high, double* sums) const {
  if (high == 0.0) return;
  const WeightExponent exponent(low, high);
  std::fill_n(sums, cell_count_, 0.0);
  for (const auto& block : blocks_) {
    block->add_weights(s, exponent.scale, exponent.shift, *kernels_, sums);
    s += block->count();
  }
}

}  // namespace routellm_fast
