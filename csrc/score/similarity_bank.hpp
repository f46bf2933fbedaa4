#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "score/cell_sums.hpp"

namespace routellm_fast {

struct KernelTable;

/// More battles on a row's prompt than the one that its place in the bank stands for.
struct Repeat {
  std::uint32_t row;
  std::uint32_t cell;
  double battles;
};

/// Rows that came together: embeddings and the cells of their battles. Immutable. Embeddings keep the digits that they
/// came with: a row is divided by its length where its similarity is, not before.
class BankBlock {
 public:
  /// Rows are count x dim float32, kept alive by `owner`, e.g. an array or a mapped file; norms are their lengths.
  /// row_cells[r] is the cell of row r's first battle; rows of one cell should lie together. Throws
  /// Error(kInvalidArgument) for a cell or row out of range, and a length that is none.
  BankBlock(std::shared_ptr<const void> owner, const float* rows, std::size_t dim, std::span<const double> norms,
            std::span<const std::uint32_t> row_cells, std::vector<Repeat> repeats, std::size_t cell_count);

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t cell_count() const noexcept { return cell_count_; }
  [[nodiscard]] const float* row(std::size_t r) const noexcept { return rows_ + r * dim_; }
  /// Similarity of one row, up to the query's length: what all rows' dot products become by divide_by_norms.
  [[nodiscard]] float similarity(std::size_t r, const float* query, const KernelTable& kernels) const noexcept;

  /// From dot products with all rows to similarities, up to the query's length.
  template <typename T>
  void divide_by_norms(T* dots) const noexcept;

  /// sums[c] += the battles of cell c, each weighted by 2^(scale * s[row] - shift); s holds count() similarities, float
  /// or double.
  template <typename T>
  void add_weights(const T* s, double scale, double shift, const KernelTable& kernels, double* sums) const;

  /// The same from weights within 3e-7, where nothing repeats.
  void add_weights_f32(const float* s, double scale, double shift, const KernelTable& kernels, double* sums) const;

 private:
  struct Run {
    std::uint32_t begin;
    std::uint32_t end;
    std::uint32_t cell;
  };

  std::shared_ptr<const void> owner_;
  const float* rows_;
  std::size_t dim_;
  std::size_t cell_count_;
  std::size_t count_;
  std::vector<double> inverse_norms_;
  std::vector<Run> runs_;
  std::vector<Repeat> repeats_;
};

/// All battles' embeddings: an exact similarity to each. Immutable and thread-safe; the bank is read once a query, or
/// once for many queries together. "Wide" adds products in float64, for answers to the last digit: a batch then costs
/// as much as its queries one by one.
class SimilarityBank final : public CellSums {
 public:
  using Blocks = std::vector<std::shared_ptr<const BankBlock>>;

  SimilarityBank(std::size_t dim, std::size_t cell_count, Blocks blocks, bool wide, const KernelTable& kernels);

  [[nodiscard]] std::size_t dim() const noexcept override { return dim_; }
  [[nodiscard]] std::size_t cell_count() const noexcept override { return cell_count_; }
  [[nodiscard]] const Blocks& blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::size_t row_count() const noexcept { return row_count_; }
  [[nodiscard]] const KernelTable& kernels() const noexcept { return *kernels_; }

  void sum(const float* queries, std::size_t count, double* sums, double* largest) const override;

 private:
  void sum_wide(const float* queries, std::size_t count, double* sums, double* largest) const;
  template <typename T>
  void divide_by_norms(T* dots) const noexcept;
  template <typename T>
  void finish(const T* s, double low, double high, double* sums) const;

  std::size_t dim_;
  std::size_t cell_count_;
  Blocks blocks_;
  std::size_t row_count_ = 0;
  bool wide_;
  const KernelTable* kernels_;
};

}  // namespace routellm_fast
