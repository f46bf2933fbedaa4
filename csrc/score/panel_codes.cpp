#include "score/panel_codes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {

static_assert(PanelCodes::kRows == kPanelRows);

namespace {

constexpr float kLargestCode = 127.0F;
constexpr float kLargestQuery = 16256.0F;  // 128 * 127: the high byte of a larger value would not fit
// A score is |row| |query| at most, in codes: kLargestCode * sqrt(dim) times the query's length. Below this it fits
// int32.
constexpr double kLargestScore = 2.0e9;

std::size_t place_of(std::size_t row, std::size_t d, std::size_t padded_dim) noexcept {
  return row / kPanelRows * kPanelRows * padded_dim + 4 * kPanelRows * (d / 4) + 4 * (row % kPanelRows) + d % 4;
}

}  // namespace

PanelCodes::PanelCodes(std::shared_ptr<const void> owner, const std::uint8_t* panels, std::span<const float> scales,
                       std::size_t dim)
    : owner_(std::move(owner)),
      codes_(panels),
      scales_(scales.data()),
      dim_(dim),
      panels_count_(scales.size() / kPanelRows) {}

PanelCodes PanelCodes::of_rows(std::span<const float> rows, std::size_t dim) {
  struct Owned {
    AlignedVector<std::uint8_t> codes;
    std::vector<float> scales;
  };
  const std::size_t count = rows.size() / dim;
  const std::size_t padded_rows = panel_count(count) * kRows;
  const auto owned = std::make_shared<Owned>();
  owned->codes.resize(padded_rows * padded_dim(dim));
  owned->scales.resize(padded_rows);
  encode(rows.data(), count, dim, owned->codes.data(), owned->scales.data());
  return {owned, owned->codes.data(), owned->scales, dim};
}

std::size_t PanelCodes::panel_count(std::size_t rows) noexcept { return (rows + kPanelRows - 1) / kPanelRows; }

std::size_t PanelCodes::padded_rows() const noexcept { return panels_count_ * kPanelRows; }

void PanelCodes::encode(const float* rows, std::size_t count, std::size_t dim, std::uint8_t* panels, float* scales) {
  const std::size_t padded = padded_dim(dim);
  const std::size_t padded_rows = panel_count(count) * kPanelRows;
  std::fill_n(panels, padded_rows * padded, std::uint8_t{128});
  std::fill_n(scales, padded_rows, 0.0F);
  for (std::size_t r = 0; r < count; ++r) {
    const float* const row = rows + r * dim;
    float largest = 0.0F;
    for (std::size_t d = 0; d < dim; ++d) {
      if (!std::isfinite(row[d])) {
        throw Error(ErrorCode::kInvalidArgument, "row " + std::to_string(r) + " of what is to be coded has " +
                                                     std::to_string(row[d]) + " in column " + std::to_string(d) +
                                                     ": every value must be finite.");
      }
      largest = std::max(largest, std::abs(row[d]));
    }
    if (largest < kLargestCode * std::numeric_limits<float>::min()) continue;  // its scale would have no inverse
    scales[r] = largest / kLargestCode;
    const float inverse = 1.0F / scales[r];
    for (std::size_t d = 0; d < dim; ++d) {
      const float code = std::clamp(std::nearbyint(row[d] * inverse), -kLargestCode, kLargestCode);
      panels[place_of(r, d, padded)] = static_cast<std::uint8_t>(static_cast<int>(code) + 128);
    }
  }
}

void PanelCodes::score(std::size_t first, std::size_t count, const CodedQueries& queries, const KernelTable& kernels,
                       float* out, std::size_t out_stride) const {
  kernels.score_panels_u8(codes_ + first * kPanelRows * padded_dim(dim_), count, padded_dim(dim_),
                          scales_ + first * kPanelRows, queries, out, out_stride);
}

void QueryCoder::reset(std::size_t count, std::size_t dim) {
  dim_ = dim;
  padded_ = PanelCodes::padded_dim(dim);
  count_ = count;
  if (whole_.size() < count * padded_) {
    whole_.resize(count * padded_);
    high_.resize(count * padded_);
    low_.resize(count * padded_);
  }
  if (bias_.size() < count) {
    bias_.resize(count);
    step_.resize(count);
    offset_.resize(count);
  }
}

void QueryCoder::code(std::size_t q, const float* values, float offset) {
  float largest = 0.0F;
  double square = 0.0;
  for (std::size_t d = 0; d < dim_; ++d) {
    largest = std::max(largest, std::abs(values[d]));
    square += static_cast<double>(values[d]) * static_cast<double>(values[d]);
  }
  const double most = kLargestScore / (static_cast<double>(kLargestCode) * std::sqrt(static_cast<double>(padded_)) *
                                       std::max(std::sqrt(square), 1e-30));
  // A query that overflowed has no codes, and scores that are no numbers: whoever reads them says so.
  const bool is_finite = std::isfinite(square);
  const float inverse =
      is_finite && largest > 0.0F ? std::min(kLargestQuery / largest, static_cast<float>(most)) : 0.0F;
  std::int32_t sum = 0;
  for (std::size_t d = 0; d < padded_; ++d) {
    const int value = d < dim_ && is_finite ? static_cast<int>(std::nearbyint(values[d] * inverse)) : 0;
    const int high = (value + 64) >> 7;
    whole_[q * padded_ + d] = static_cast<std::int16_t>(value);
    high_[q * padded_ + d] = static_cast<std::int8_t>(high);
    low_[q * padded_ + d] = static_cast<std::int8_t>(value - 128 * high);
    sum += value;
  }
  bias_[q] = 128 * sum;
  step_[q] = inverse > 0.0F ? 1.0F / inverse : 0.0F;
  offset_[q] = is_finite ? offset : std::numeric_limits<float>::quiet_NaN();
}

CodedQueries QueryCoder::queries() const noexcept {
  return {whole_.data(), high_.data(), low_.data(), bias_.data(), step_.data(), offset_.data(), count_};
}

}  // namespace routellm_fast
