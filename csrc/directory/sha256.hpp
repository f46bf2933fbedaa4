#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace routellm_fast {

/// SHA-256 (FIPS 180-4) of bytes that come piece by piece.
class Sha256 {
 public:
  void update(std::span<const std::byte> bytes) noexcept;

  /// 64 hexadecimal digits of all bytes so far. Ends the object's use.
  [[nodiscard]] std::string finish();

 private:
  static constexpr std::size_t kBlockBytes = 64;

  void take(const std::byte* blocks, std::size_t count) noexcept;

  std::array<std::uint32_t, 8> state_{0x6A09E667U, 0xBB67AE85U, 0x3C6EF372U, 0xA54FF53AU,
                                      0x510E527FU, 0x9B05688CU, 0x1F83D9ABU, 0x5BE0CD19U};
  std::array<std::byte, kBlockBytes> rest_{};
  std::uint64_t total_bytes_ = 0;
};

/// Whether a text has the form of a digest: 64 hexadecimal digits, those above 9 in lower case.
[[nodiscard]] bool is_sha256(std::string_view text) noexcept;

/// The digest of one piece.
[[nodiscard]] std::string sha256_of(std::span<const std::byte> bytes);

}  // namespace routellm_fast
