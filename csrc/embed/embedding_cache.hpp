#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace routellm_fast {

/// Counters and sizes of an EmbeddingCache.
struct EmbeddingCacheStats {
  std::uint64_t hits = 0;       // keys found by get_many
  std::uint64_t misses = 0;     // keys not found by get_many
  std::uint64_t evictions = 0;  // entries dropped to make room
  std::size_t entries = 0;
  std::size_t bytes_used = 0;  // memory held: tables, slabs and the allocator's overhead
};

/// Remembers float32 vectors of one length by 16-byte keys: a least-recently-used cache bounded in bytes. Thread-safe.
///
/// Guarantees: bytes_used() never exceeds capacity_bytes(); a vector is returned whole or not at all; after warm-up no
/// call allocates. Keys are digests: equal keys mean equal vectors, so nothing but the key is compared.
///
/// The keys are spread over shards, each with its own lock, budget and order of use: eviction is least-recently-used
/// within a shard. A capacity too small for one entry keeps nothing.
class EmbeddingCache {
 public:
  static constexpr std::size_t kKeyBytes = 16;

  /// Takes at most `shards` shards, fewer where each would hold only a handful of entries. Throws
  /// Error(kInvalidArgument) for a dim or a number of shards outside [1, 2^20] or [1, 1024].
  EmbeddingCache(std::size_t dim, std::size_t capacity_bytes, std::size_t shards = 16);
  ~EmbeddingCache();

  EmbeddingCache(const EmbeddingCache&) = delete;
  EmbeddingCache& operator=(const EmbeddingCache&) = delete;
  EmbeddingCache(EmbeddingCache&&) = delete;
  EmbeddingCache& operator=(EmbeddingCache&&) = delete;

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t capacity_bytes() const noexcept { return capacity_bytes_; }
  [[nodiscard]] std::size_t shard_count() const noexcept { return shards_.size(); }

  /// For each of `count` keys: hit[i] = 1 and row i of `out` is its vector, or hit[i] = 0 and the row is left as it
  /// was.
  void get_many(const std::uint8_t* keys, std::size_t count, float* out, bool* hit);

  /// Stores row i of `vectors` under key i, as the most recently used. A key that is there already gets the new vector.
  void put_many(const std::uint8_t* keys, std::size_t count, const float* vectors);

  /// Each shard is read at one moment, all of them one after another.
  [[nodiscard]] EmbeddingCacheStats stats() const;
  [[nodiscard]] std::size_t size() const { return stats().entries; }
  [[nodiscard]] std::size_t bytes_used() const { return stats().bytes_used; }

 private:
  class Shard;

  [[nodiscard]] Shard& shard_of(std::uint64_t hash) const noexcept { return *shards_[hash % shards_.size()]; }

  std::size_t dim_;
  std::size_t capacity_bytes_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace routellm_fast
