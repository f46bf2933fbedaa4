#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace routellm_fast::fuzz {

/// The bytes of an input, read from the front as a list of things to do. Behind its end everything reads as zero.
class Script {
 public:
  Script(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  [[nodiscard]] bool is_over() const noexcept { return rest_.empty(); }

  std::uint8_t byte() noexcept {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }

  /// Little-endian, of this many bytes.
  std::uint64_t integer(std::size_t bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t k = 0; k < bytes; ++k) value |= static_cast<std::uint64_t>(byte()) << 8 * k;
    return value;
  }

  /// A number below `count`, which must not be 0, from one or two bytes.
  std::size_t below(std::size_t count) noexcept {
    return static_cast<std::size_t>(integer(count > 256 ? 2 : 1)) % count;
  }

  bool flag() noexcept { return byte() % 2 == 1; }

  /// At most this many bytes, in memory of their own, so that a sanitizer sees one byte too many.
  std::string take(std::size_t most) {
    const std::string taken(rest_.substr(0, most));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  /// Text of a length that its first byte says.
  std::string text() { return take(byte()); }

  std::string rest() { return take(rest_.size()); }

  /// Mostly a number at which arithmetic goes wrong, else any bits.
  float float32() noexcept {
    const std::uint8_t which = byte();
    if (which < kNumbers.size()) return static_cast<float>(kNumbers.at(which));
    if (which < 128) return static_cast<float>(which) - 64.0F;
    return std::bit_cast<float>(static_cast<std::uint32_t>(integer(4)));
  }

  double float64() noexcept {
    const std::uint8_t which = byte();
    if (which < kNumbers.size()) return kNumbers.at(which);
    if (which < 128) return static_cast<double>(which) - 64.0;
    return std::bit_cast<double>(integer(8));
  }

 private:
  // What is beyond float32 reads as infinite or as zero there.
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr std::array<double, 26> kNumbers{0.0,
                                                   1.0,
                                                   -1.0,
                                                   0.5,
                                                   1e-3,
                                                   1e-7,
                                                   -0.0,
                                                   1e-30,
                                                   -1e-30,
                                                   1e30,
                                                   -1e30,
                                                   0x1p-149,
                                                   0x1p-126,
                                                   3.4e38,
                                                   -3.4e38,
                                                   1e20,
                                                   1e10,
                                                   1e-10,
                                                   0x1p24,
                                                   0x1p31,
                                                   kInfinity,
                                                   -kInfinity,
                                                   std::numeric_limits<double>::quiet_NaN(),
                                                   0x1p-1074,
                                                   1e300,
                                                   -1e300};

  std::string_view rest_;
};

}  // namespace routellm_fast::fuzz
