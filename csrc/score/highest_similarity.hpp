#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/kernel_abi.hpp"

namespace routellm_fast {

/// Looks up the exact similarities of the highest approximate scores and returns the largest. `exact(i)` gives that of
/// score i, or minus infinity for padding. Scores within `margin` of the highest count, fewer where they are many: each
/// is a walk to memory.
template <typename Exact>
float highest_similarity(float* scores, std::size_t count, float margin, const KernelTable& kernels, Exact exact) {
  constexpr std::size_t kMaxLookups = 32;
  constexpr int kMaxHalvings = 24;
  float low = 0.0F;
  float high = 0.0F;
  kernels.range_f32(scores, count, &low, &high);
  std::array<std::uint32_t, kMaxLookups> found{};
  std::size_t hits = kernels.find_at_least_f32(scores, count, high - margin, found.data(), kMaxLookups);
  for (int halving = 0; hits > kMaxLookups && halving < kMaxHalvings; ++halving) {
    margin *= 0.5F;
    hits = kernels.find_at_least_f32(scores, count, high - margin, found.data(), kMaxLookups);
  }
  float largest = -std::numeric_limits<float>::infinity();
  for (std::size_t k = 0; k < std::min(hits, kMaxLookups); ++k) {
    const float similarity = exact(found[k]);
    if (similarity > -std::numeric_limits<float>::infinity()) scores[found[k]] = similarity;
    largest = std::max(largest, similarity);
  }
  return largest;
}

}  // namespace routellm_fast
