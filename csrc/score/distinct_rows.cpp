#include "score/distinct_rows.hpp"

#include <cstring>
#include <unordered_map>

namespace routellm_fast {
namespace {

// FNV-1a over 64-bit words with a final mix: equality is decided by comparing, the hash only has to spread.
std::uint64_t hash_row(const float* row, std::size_t dim) {
  constexpr std::uint64_t kPrime = 0x100000001B3ULL;
  std::uint64_t lanes[4] = {0xCBF29CE484222325ULL, 0x84222325CBF29CE4ULL, 0x9E3779B97F4A7C15ULL, 0xC2B2AE3D27D4EB4FULL};
  const auto* bytes = reinterpret_cast<const unsigned char*>(row);
  const std::size_t size = dim * sizeof(float);
  std::size_t i = 0;
  for (; i + 32 <= size; i += 32) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + i + 8 * lane, sizeof(word));
      lanes[lane] = (lanes[lane] ^ word) * kPrime;
    }
  }
  std::uint64_t hash = lanes[0];
  for (std::size_t lane = 1; lane < 4; ++lane) hash = (hash ^ (hash >> 29) ^ lanes[lane]) * kPrime;
  for (; i < size; ++i) hash = (hash ^ bytes[i]) * kPrime;
  return hash ^ (hash >> 32);
}

}  // namespace

void first_equal_rows(const float* rows, std::size_t dim, std::span<std::uint32_t> first) {
  std::unordered_multimap<std::uint64_t, std::uint32_t> seen;
  seen.reserve(first.size());
  for (std::size_t r = 0; r < first.size(); ++r) {
    const float* const row = rows + r * dim;
    const std::uint64_t hash = hash_row(row, dim);
    const auto [begin, end] = seen.equal_range(hash);
    auto found = begin;
    while (found != end && std::memcmp(rows + found->second * dim, row, dim * sizeof(float)) != 0) ++found;
    if (found != end) {
      first[r] = found->second;
    } else {
      first[r] = static_cast<std::uint32_t>(r);
      seen.emplace(hash, static_cast<std::uint32_t>(r));
    }
  }
}

}  // namespace routellm_fast
