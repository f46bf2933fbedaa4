#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace routellm_fast::unicode {

inline constexpr char32_t kCodePointCount = 0x110000;
inline constexpr unsigned kBlockBits = 7;

/// The properties of one code point that BERT's normalization and word splitting use, for each step separately.
struct CodePointFacts {
  enum Flag : std::uint8_t {
    kDropped = 1,          // by clean_text
    kWhitespace = 2,       // splits words and is dropped
    kPunctuation = 4,      // is a word of its own
    kIdeograph = 8,        // is a word of its own under handle_chinese_chars
    kNonspacingMark = 16,  // dropped by strip_accents; measured only where kDecomposes is unset
    kDecomposes = 32,      // differs from its canonical decomposition
  };
  std::uint8_t flags;
  std::uint8_t combining_class;  // canonical; 0 where kDecomposes is set
  std::int32_t lower_delta;      // to the first code point of the lowercase form

  [[nodiscard]] bool has(Flag flag) const noexcept { return (flags & flag) != 0; }
};

/// The only code point whose lowercase form is two: "i" and kCombiningDotAbove.
inline constexpr char32_t kCapitalIWithDot = 0x130;
inline constexpr char32_t kCombiningDotAbove = 0x307;

/// Two-stage tables: a block number for every 2^kBlockBits code points, then the entries of the distinct blocks. A
/// decomposition's entry is its begin in kDecompositions << 3 | its length; 0 for none and for Hangul syllables, whose
/// decomposition is arithmetic.
extern const CodePointFacts kFacts[];
extern const std::uint8_t kFactBlocks[];
extern const std::uint8_t kFactEntries[];
extern const std::uint8_t kDecompositionBlocks[];
extern const std::uint16_t kDecompositionEntries[];
extern const char32_t kDecompositions[];

[[nodiscard]] inline std::size_t entry_index(const std::uint8_t* blocks, char32_t c) noexcept {
  return (std::size_t{blocks[c >> kBlockBits]} << kBlockBits) + (c & ((1U << kBlockBits) - 1U));
}

/// The properties of a code point; `c` must be below kCodePointCount and no surrogate.
[[nodiscard]] inline const CodePointFacts& facts(char32_t c) noexcept {
  return kFacts[kFactEntries[entry_index(kFactBlocks, c)]];
}

/// The full canonical decomposition of a code point with kDecomposes, without Hangul syllables: empty for them.
[[nodiscard]] inline std::span<const char32_t> decomposition(char32_t c) noexcept {
  const std::uint16_t entry = kDecompositionEntries[entry_index(kDecompositionBlocks, c)];
  return {kDecompositions + (entry >> 3U), entry & 7U};
}

}  // namespace routellm_fast::unicode
