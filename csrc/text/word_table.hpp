#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace routellm_fast {

/// A word of at most 16 bytes as two little-endian integers padded with zeros.
struct PackedWord {
  static constexpr std::size_t kMaxBytes = 16;
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend bool operator==(const PackedWord&, const PackedWord&) = default;
};

/// A perfect hash over words, made by displacement: the word's hash chooses a bucket, and the bucket's pilot, found
/// when the table was built, sends each of the bucket's words to a slot of its own. A search takes one
/// comparison and no second try, which a processor could mispredict. The table is nearly full, which saves cache.
template <class Word>
class PerfectWordTable {
 public:
  struct Entry {
    Word word{};
    std::uint32_t id = kMissing;
  };
  static constexpr std::uint32_t kMissing = 0xFFFFFFFF;

  PerfectWordTable() = default;

  /// Takes entries with distinct words, none of which is all zeros. The few words whose bucket finds no pilot are left
  /// out.
  explicit PerfectWordTable(std::span<const Entry> entries)
      : pilots_(entries.size() / kWordsPerBucket + 1), slots_(entries.size() + entries.size() / kSpareShare + 1) {
    std::vector<std::vector<Entry>> buckets(pilots_.size());
    for (const Entry& entry : entries) buckets[bucket(hash(entry.word))].push_back(entry);
    std::vector<std::size_t> order(buckets.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    // The largest buckets first, while there is room to choose from.
    std::ranges::stable_sort(order, std::greater<>(), [&buckets](std::size_t i) { return buckets[i].size(); });
    for (const std::size_t i : order) place(buckets[i], pilots_[i]);
  }

  /// The word's id, or kMissing.
  [[nodiscard]] std::uint32_t find(const Word& word) const noexcept {
    const std::uint64_t h = hash(word);
    const Entry& entry = slots_[slot(h, pilots_[bucket(h)])];
    return entry.word == word ? entry.id : kMissing;
  }

 private:
  using Pilot = std::uint16_t;

  static constexpr std::size_t kWordsPerBucket = 4;
  static constexpr std::size_t kSpareShare = 8;  // one slot in nine stays empty
  static constexpr unsigned kMaxPilot = 0xFFFF;
  static constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 / the golden ratio

  static std::uint64_t mix(std::uint64_t x) noexcept {
    x *= kMultiplier;
    return x ^ x >> 32U;
  }
  static std::uint64_t hash(std::uint64_t word) noexcept { return mix(word ^ word >> 32U); }
  static std::uint64_t hash(const PackedWord& word) noexcept { return hash(mix(word.high) + word.low); }

  // The upper half of a 64-bit number scaled to 0 <= index < size.
  static std::size_t scale(std::uint64_t h, std::size_t size) noexcept {
    return static_cast<std::size_t>((h >> 32U) * size >> 32U);
  }
  [[nodiscard]] std::size_t bucket(std::uint64_t h) const noexcept { return scale(h, pilots_.size()); }
  [[nodiscard]] std::size_t slot(std::uint64_t h, Pilot pilot) const noexcept {
    return scale((h ^ pilot) * kMultiplier, slots_.size());
  }

  void place(std::span<const Entry> entries, Pilot& pilot) {
    for (unsigned candidate = 0; candidate <= kMaxPilot; ++candidate) {
      std::size_t placed = 0;
      for (; placed < entries.size(); ++placed) {
        Entry& target = slots_[slot(hash(entries[placed].word), static_cast<Pilot>(candidate))];
        if (!(target.word == Word{})) break;
        target = entries[placed];
      }
      if (placed == entries.size()) {
        pilot = static_cast<Pilot>(candidate);
        return;
      }
      for (std::size_t i = 0; i < placed; ++i) slots_[slot(hash(entries[i].word), static_cast<Pilot>(candidate))] = {};
    }
  }

  std::vector<Pilot> pilots_;
  std::vector<Entry> slots_;
};

/// Finds words that are whole tokens, as most words of a text are. Words of up to eight bytes have a table of their
/// own, so that the frequent ones lie close together. Words that contain NUL have no packed form of their own: neither
/// insert them nor ask for them.
class WordTable {
 public:
  static constexpr std::uint32_t kMissing = 0xFFFFFFFF;
  using ShortEntry = PerfectWordTable<std::uint64_t>::Entry;
  using LongEntry = PerfectWordTable<PackedWord>::Entry;

  WordTable(std::span<const ShortEntry> short_words, std::span<const LongEntry> long_words)
      : short_(short_words), long_(long_words) {}

  /// A word of one to eight bytes.
  [[nodiscard]] std::uint32_t find(std::uint64_t word) const noexcept { return short_.find(word); }

  /// A word of nine to sixteen bytes.
  [[nodiscard]] std::uint32_t find(const PackedWord& word) const noexcept { return long_.find(word); }

 private:
  PerfectWordTable<std::uint64_t> short_;
  PerfectWordTable<PackedWord> long_;
};

}  // namespace routellm_fast
