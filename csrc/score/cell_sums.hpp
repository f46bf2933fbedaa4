#pragma once

#include <cstddef>

namespace routellm_fast {

/// What a query makes of the battles: for each cell the sum of 10^(s / max s) over its battles, s being the cosine of
/// query and battle. Source: RouteLLM's get_weightings; its factor of ten and ours cancel in the refit.
class CellSums {
 public:
  CellSums() = default;
  CellSums(const CellSums&) = delete;
  CellSums& operator=(const CellSums&) = delete;
  virtual ~CellSums() = default;

  [[nodiscard]] virtual std::size_t dim() const noexcept = 0;
  [[nodiscard]] virtual std::size_t cell_count() const noexcept = 0;

  /// For `count` queries of dim() values, one after the other, whose largest values are near 1: writes count x
  /// cell_count() sums, each query's up to a common factor, and its largest similarity, up to the query's length, which
  /// cancels. Where that is 0 the weights are undefined and the sums are left as they are. A query's sums do not depend
  /// on the others, bitwise. Allocates nothing after warm-up.
  virtual void sum(const float* queries, std::size_t count, double* sums, double* largest) const = 0;
};

/// How a compressed bank finds the largest similarity, in cosines.
struct Lookup {
  double margin;  // scores within this of the highest are looked up in the bank itself
  double reach;  // a query less similar to every battle than this is answered by the bank itself: its weights vary more
                 // than those that the error bound was measured on
};

/// Weight 2^(scale * s - shift): 10^(s / largest) with the largest weight scaled to 1, so that nothing overflows, also
/// where all similarities are negative and the least similar battle weighs most.
struct WeightExponent {
  WeightExponent(double smallest, double largest) noexcept;

  double scale;
  double shift;
};

}  // namespace routellm_fast
