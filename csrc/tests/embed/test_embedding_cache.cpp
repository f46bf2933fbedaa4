#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <list>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.hpp"
#include "embed/embedding_cache.hpp"

namespace routellm_fast {
namespace {

using KeyBytes = std::array<std::uint8_t, EmbeddingCache::kKeyBytes>;

KeyBytes key_of(std::uint64_t n) {
  KeyBytes key{};
  std::memcpy(key.data(), &n, sizeof n);
  return key;
}

// A vector whose every element tells its key and version: a torn one shows.
std::vector<float> vector_of(std::uint64_t n, std::size_t dim, std::uint64_t version = 0) {
  return std::vector<float>(dim, static_cast<float>(n * 64 + version));
}

bool get(EmbeddingCache& cache, std::uint64_t n, std::vector<float>& out) {
  bool hit = false;
  cache.get_many(key_of(n).data(), 1, out.data(), &hit);
  return hit;
}

void put(EmbeddingCache& cache, std::uint64_t n, std::uint64_t version = 0) {
  cache.put_many(key_of(n).data(), 1, vector_of(n, cache.dim(), version).data());
}

// The capacity that holds this many entries in one shard and no more.
std::size_t capacity_for(std::size_t dim, std::size_t entries) {
  std::size_t capacity = 0;
  const auto held = [&](std::size_t bytes) {
    EmbeddingCache cache(dim, bytes, 1);
    for (std::uint64_t n = 0; n <= entries; ++n) put(cache, n);
    return cache.size();
  };
  for (std::size_t step = std::size_t{1} << 24; step > 0; step /= 2) {
    if (held(capacity + step) < entries) capacity += step;
  }
  return capacity + 1;
}

TEST_CASE("a vector comes back as it was put, and a missing key leaves its row alone") {
  EmbeddingCache cache(3, 1 << 20);
  std::vector<std::uint8_t> keys;
  for (const std::uint64_t n : {1U, 2U, 3U}) {
    const KeyBytes key = key_of(n);
    keys.insert(keys.end(), key.begin(), key.end());
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> vectors{1.0F, -0.0F, nan, 4.0F, 5.0F, 1e-45F};
  cache.put_many(keys.data(), 2, vectors.data());

  std::vector<float> out(9, 7.0F);
  std::array<bool, 3> hit{};
  cache.get_many(keys.data(), 3, out.data(), hit.data());
  CHECK(hit == std::array<bool, 3>{true, true, false});
  CHECK(std::memcmp(out.data(), vectors.data(), vectors.size() * sizeof(float)) == 0);
  CHECK(std::vector<float>(out.begin() + 6, out.end()) == std::vector<float>(3, 7.0F));

  const EmbeddingCacheStats stats = cache.stats();
  CHECK(stats.hits == 2);
  CHECK(stats.misses == 1);
  CHECK(stats.entries == 2);
  CHECK(stats.evictions == 0);
}

TEST_CASE("keys that differ in any one bit are different keys") {
  EmbeddingCache cache(1, 1 << 20);
  std::vector<float> out(1);
  for (std::size_t bit = 0; bit < 128; ++bit) {
    KeyBytes key{};
    key.at(bit / 8) = static_cast<std::uint8_t>(1U << (bit % 8));
    const auto value = static_cast<float>(bit);
    cache.put_many(key.data(), 1, &value);
  }
  for (std::size_t bit = 0; bit < 128; ++bit) {
    KeyBytes key{};
    key.at(bit / 8) = static_cast<std::uint8_t>(1U << (bit % 8));
    bool hit = false;
    cache.get_many(key.data(), 1, out.data(), &hit);
    CHECK(hit);
    CHECK(out[0] == static_cast<float>(bit));
  }
}

TEST_CASE("putting a key again replaces its vector and adds no entry") {
  EmbeddingCache cache(5, 1 << 20);
  std::vector<float> out(5);
  for (std::uint64_t version = 0; version < 10; ++version) put(cache, 42, version);
  CHECK(cache.size() == 1);
  CHECK(get(cache, 42, out));
  CHECK(out == vector_of(42, 5, 9));
}

TEST_CASE("one shard evicts the least recently used entry, as a plain list model does") {
  constexpr std::size_t kDim = 4;
  constexpr std::size_t kEntries = 37;
  EmbeddingCache cache(kDim, capacity_for(kDim, kEntries), 1);
  std::list<std::uint64_t> order;  // newest first
  std::unordered_map<std::uint64_t, std::uint64_t> versions;
  std::mt19937 rng(11);
  std::vector<float> out(kDim);
  std::uint64_t evictions = 0;
  for (std::uint64_t step = 0; step < 50'000; ++step) {
    const std::uint64_t n = rng() % 80;
    const bool known = versions.contains(n);
    if (rng() % 2 == 0) {
      REQUIRE(get(cache, n, out) == known);
      if (known) REQUIRE(out == vector_of(n, kDim, versions[n]));
    } else {
      put(cache, n, step % 64);
      versions[n] = step % 64;
      if (!known && versions.size() > kEntries) {
        versions.erase(order.back());
        order.pop_back();
        ++evictions;
      }
      if (!known) order.push_front(n);
    }
    if (versions.contains(n)) {
      order.remove(n);
      order.push_front(n);
    }
  }
  CHECK(cache.size() == kEntries);
  CHECK(cache.stats().evictions == evictions);
}

TEST_CASE("the memory held never exceeds the capacity, and most of the capacity is used") {
  for (const std::size_t dim : {1U, 7U, 256U, 3072U}) {
    for (const std::size_t capacity : {0U, 1U, 100U, 1'000U, 10'000U, 100'000U, 1'000'000U, 20'000'000U}) {
      for (const std::size_t shards : {1U, 3U, 16U}) {
        CAPTURE(dim);
        CAPTURE(capacity);
        CAPTURE(shards);
        EmbeddingCache cache(dim, capacity, shards);
        REQUIRE(cache.bytes_used() <= capacity);
        const std::size_t entry_bytes = dim * sizeof(float) + EmbeddingCache::kKeyBytes;
        const std::size_t puts = std::min<std::size_t>(2 * capacity / entry_bytes + 10, 30'000);
        for (std::uint64_t n = 0; n < puts; ++n) {
          put(cache, n);
          if (n % 1'000 == 0) REQUIRE(cache.bytes_used() <= capacity);
        }
        const EmbeddingCacheStats stats = cache.stats();
        REQUIRE(stats.bytes_used <= capacity);
        REQUIRE(stats.entries * entry_bytes <= stats.bytes_used);
        if (puts < 30'000 && capacity >= 1'000'000 && dim >= 7) {
          // An entry is vector, key, two links and its share of a table that is between 3/8 and 3/4 full.
          const std::size_t real_bytes = entry_bytes + 8 + 11;
          CHECK(static_cast<double>(stats.entries * real_bytes) > 0.85 * static_cast<double>(capacity));
        }
      }
    }
  }
}

TEST_CASE("an entry larger than the capacity is not kept") {
  EmbeddingCache cache(1'000, 2'000);
  put(cache, 1);
  std::vector<float> out(1'000);
  CHECK_FALSE(get(cache, 1, out));
  CHECK(cache.size() == 0);
  CHECK(cache.bytes_used() == 0);
}

TEST_CASE("small capacities use fewer shards, so that eviction follows use") {
  CHECK(EmbeddingCache(256, 64 << 20, 16).shard_count() == 16);
  CHECK(EmbeddingCache(1536, 1 << 20, 16).shard_count() == 2);
  CHECK(EmbeddingCache(1536, 10'000, 16).shard_count() == 1);
}

TEST_CASE("arguments outside their ranges are refused by name") {
  CHECK_THROWS_AS(EmbeddingCache(0, 1 << 20), Error);
  CHECK_THROWS_AS(EmbeddingCache((std::size_t{1} << 20) + 1, 1 << 20), Error);
  CHECK_THROWS_AS(EmbeddingCache(8, 1 << 20, 0), Error);
  CHECK_THROWS_AS(EmbeddingCache(8, 1 << 20, 1'025), Error);
}

TEST_CASE("threads that read, write and evict at once never see a torn or foreign vector") {
  constexpr std::size_t kDim = 33;
  constexpr std::size_t kKeys = 400;
  constexpr std::size_t kBatch = 8;
  constexpr int kThreads = 6;
  constexpr int kRounds = 3'000;
  // Room for about half of the keys, in two shards: every kind of step meets every other.
  EmbeddingCache cache(kDim, 2 * capacity_for(kDim, kKeys / 4), 2);
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::uint64_t> over{0};
  std::atomic<std::uint64_t> lookups{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 rng(seed);
    std::vector<std::uint8_t> keys(kBatch * EmbeddingCache::kKeyBytes);
    std::vector<float> vectors(kBatch * kDim);
    std::array<std::uint64_t, kBatch> wanted{};
    std::array<bool, kBatch> hit{};
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t i = 0; i < kBatch; ++i) {
        wanted.at(i) = rng() % kKeys;
        const KeyBytes key = key_of(wanted.at(i));
        std::ranges::copy(key, keys.begin() + static_cast<std::ptrdiff_t>(i * key.size()));
        const std::vector<float> vector = vector_of(wanted.at(i), kDim, rng() % 64);
        std::ranges::copy(vector, vectors.begin() + static_cast<std::ptrdiff_t>(i * kDim));
      }
      if (rng() % 2 == 0) {
        cache.put_many(keys.data(), kBatch, vectors.data());
      } else {
        cache.get_many(keys.data(), kBatch, vectors.data(), hit.data());
        lookups += kBatch;
        for (std::size_t i = 0; i < kBatch; ++i) {
          if (!hit.at(i)) continue;
          const float* row = vectors.data() + i * kDim;
          const bool whole = std::all_of(row, row + kDim, [&](float x) { return x == row[0]; });
          if (!whole || static_cast<std::uint64_t>(row[0]) / 64 != wanted.at(i)) ++torn;
        }
      }
      if (round % 100 == 0 && cache.bytes_used() > cache.capacity_bytes()) ++over;
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (unsigned t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();

  const EmbeddingCacheStats stats = cache.stats();
  CHECK(torn == 0);
  CHECK(over == 0);
  CHECK(stats.hits + stats.misses == lookups);
  CHECK(stats.evictions > 0);
}

}  // namespace
}  // namespace routellm_fast
