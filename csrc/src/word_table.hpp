#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace routellm_fast {

/// A word of at most 16 bytes as two little-endian integers padded with zeros.
struct PackedWord {
  static constexpr std::size_t kMaxBytes = 16;
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend bool operator==(const PackedWord&, const PackedWord&) = default;
};

/// Words that are tokens as a whole, which most words of a text are: one probe answers with the id. Words of up to
/// eight bytes have a table of their own, half the size of the other's, so that the frequent ones stay in the cache.
/// Words that contain NUL have no packed form of their own and must not be inserted or asked for.
class WordTable {
 public:
  static constexpr std::uint32_t kMissing = 0xFFFFFFFF;

  void reserve(std::size_t short_words, std::size_t long_words) {
    short_.resize(words_to_slots(short_words));
    long_.resize(words_to_slots(long_words));
  }

  /// After reserve(), and at most as many as it was told.
  void insert(const PackedWord& word, std::uint32_t id) noexcept {
    if (word.high == 0) {
      std::size_t i = slot(word.low, short_.size());
      while (short_[i].word != 0) i = (i + 1) & (short_.size() - 1);
      short_[i] = {word.low, id};
    } else {
      std::size_t i = slot(mix(word), long_.size());
      while (long_[i].word.high != 0) i = (i + 1) & (long_.size() - 1);
      long_[i] = {word, id};
    }
  }

  /// A word of one to eight bytes.
  [[nodiscard]] std::uint32_t find(std::uint64_t word) const noexcept {
    for (std::size_t i = slot(word, short_.size());; i = (i + 1) & (short_.size() - 1)) {
      if (short_[i].word == word) return short_[i].id;
      if (short_[i].word == 0) return kMissing;
    }
  }

  /// A word of nine to sixteen bytes.
  [[nodiscard]] std::uint32_t find(const PackedWord& word) const noexcept {
    for (std::size_t i = slot(mix(word), long_.size());; i = (i + 1) & (long_.size() - 1)) {
      if (long_[i].word == word) return long_[i].id;
      if (long_[i].word.high == 0) return kMissing;
    }
  }

 private:
  struct ShortSlot {
    std::uint64_t word = 0;
    std::uint32_t id = kMissing;
  };
  struct LongSlot {
    PackedWord word;
    std::uint32_t id = kMissing;
  };
  static constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 / the golden ratio

  // At most half full, so that most searches end at the first slot, and never full, so that every search ends.
  static std::size_t words_to_slots(std::size_t words) noexcept { return std::bit_ceil(2 * words + 2); }

  // The top bits of the product, which every bit of the word reaches.
  static std::size_t slot(std::uint64_t word, std::size_t slots) noexcept {
    return static_cast<std::size_t>((word ^ word >> 32U) * kMultiplier >> (64U - std::countr_zero(slots)));
  }

  static std::uint64_t mix(const PackedWord& word) noexcept {
    return word.low * kMultiplier ^ std::rotl(word.high, 29);
  }

  std::vector<ShortSlot> short_;
  std::vector<LongSlot> long_;
};

}  // namespace routellm_fast
