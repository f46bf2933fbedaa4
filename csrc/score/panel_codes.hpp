#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.hpp"

namespace routellm_fast {

struct CodedQueries;
struct KernelTable;

/// Rows of float32 as one byte a value and a scale a row: value = scale * (code - 128), the largest of a row at code 1
/// or 255. Sixteen rows make a panel (kernel_abi.hpp says in which order); missing rows of the last one have scale 0,
/// missing dimensions, up to a multiple of four, code 128.
class PanelCodes {
 public:
  static constexpr std::size_t kRows = 16;  // of a panel

  /// Codes and scales are kept alive by `owner`: panel_count(rows) x kRows x padded_dim(dim) bytes and
  /// panel_count(rows) x kRows scales.
  PanelCodes(std::shared_ptr<const void> owner, const std::uint8_t* panels, std::span<const float> scales,
             std::size_t dim);

  /// Codes of its own for rows of dim values.
  [[nodiscard]] static PanelCodes of_rows(std::span<const float> rows, std::size_t dim);

  [[nodiscard]] static std::size_t padded_dim(std::size_t dim) noexcept { return (dim + 3) / 4 * 4; }
  [[nodiscard]] static std::size_t panel_count(std::size_t rows) noexcept;

  /// Writes the codes and scales of `count` rows.
  static void encode(const float* rows, std::size_t count, std::size_t dim, std::uint8_t* panels, float* scales);

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t panels() const noexcept { return panels_count_; }
  [[nodiscard]] std::size_t padded_rows() const noexcept;

  /// out[q * out_stride + r] = offset_q + query_q . row_r for the rows of panels [first, first + count).
  void score(std::size_t first, std::size_t count, const CodedQueries& queries, const KernelTable& kernels, float* out,
             std::size_t out_stride) const;

 private:
  std::shared_ptr<const void> owner_;
  const std::uint8_t* codes_;
  const float* scales_;
  std::size_t dim_;
  std::size_t panels_count_;
};

/// Queries as fifteen-bit integers with a step each. One object a thread, used again and again.
class QueryCoder {
 public:
  /// Takes up `count` queries of `dim` values.
  void reset(std::size_t count, std::size_t dim);

  /// Codes query q; `offset` is what its scores start from.
  void code(std::size_t q, const float* values, float offset);

  [[nodiscard]] CodedQueries queries() const noexcept;

 private:
  std::size_t dim_ = 0;
  std::size_t padded_ = 0;
  std::size_t count_ = 0;
  AlignedVector<std::int16_t> whole_;
  AlignedVector<std::int8_t> high_;
  AlignedVector<std::int8_t> low_;
  std::vector<std::int32_t> bias_;
  std::vector<float> step_;
  std::vector<float> offset_;
};

}  // namespace routellm_fast
