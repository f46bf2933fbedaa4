#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

// Handles eight bytes of text at once in a 64-bit integer, with the first byte lowest. Needs no vector instructions.
namespace routellm_fast {

[[nodiscard]] constexpr std::uint64_t every_byte(std::uint64_t byte) { return byte * 0x0101010101010101U; }

inline constexpr std::uint64_t kCaseBit =
    every_byte(0x20);  // turns capitals into small letters and leaves digits alone
inline constexpr std::uint64_t kHighBits = every_byte(0x80);
inline constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

/// The high bit of every byte that is no ASCII letter or digit. The additions carry a byte into its high bit where it
/// reaches a range's first value, or passes its last, and never into the next byte.
[[nodiscard]] constexpr std::uint64_t non_alphanumeric(std::uint64_t bytes) {
  const std::uint64_t seven_bits = bytes & ~kHighBits;
  const std::uint64_t lower = seven_bits | kCaseBit;
  const std::uint64_t letter = (lower + every_byte(0x80 - 'a')) & ~(lower + every_byte(0x7F - 'z'));
  const std::uint64_t digit = (seven_bits + every_byte(0x80 - '0')) & ~(seven_bits + every_byte(0x7F - '9'));
  return (~(letter | digit) | bytes) & kHighBits;
}

/// The bytes before the first one marked in `marks`, which is not 0.
[[nodiscard]] constexpr std::size_t bytes_before(std::uint64_t marks) {
  return static_cast<std::size_t>(std::countr_zero(marks)) / 8;
}

/// The first `count` bytes, filled up with zeros; `count` must be below eight.
[[nodiscard]] constexpr std::uint64_t first_bytes(std::uint64_t bytes, std::size_t count) {
  return bytes & ((std::uint64_t{1} << 8 * count) - 1);
}

inline std::uint64_t to_little_endian(std::uint64_t bytes) noexcept {
  if constexpr (std::endian::native == std::endian::big) {
    std::uint64_t swapped = 0;
    for (unsigned i = 0; i < kWordBytes; ++i) swapped |= (bytes >> 8 * i & 0xFFU) << 8 * (kWordBytes - 1 - i);
    return swapped;
  }
  return bytes;
}

/// The first eight bytes of a text, filled up with zeros behind its end.
[[nodiscard]] inline std::uint64_t load(std::string_view text) noexcept {
  std::uint64_t bytes = 0;
  if (text.size() >= kWordBytes) {
    std::memcpy(&bytes, text.data(), kWordBytes);
  } else {
    std::memcpy(&bytes, text.data(), text.size());
  }
  return to_little_endian(bytes);
}

}  // namespace routellm_fast
