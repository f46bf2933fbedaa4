#include "directory/sha256.hpp"

#include <algorithm>
#include <cstring>

#include "dispatch/kernels.hpp"

namespace routellm_fast {
void Sha256::take(const std::byte* blocks, std::size_t count) noexcept {
  static const Sha256Blocks kernel = sha256_blocks();
  kernel(state_.data(), reinterpret_cast<const std::uint8_t*>(blocks), count);
}

void Sha256::update(std::span<const std::byte> bytes) noexcept {
  if (bytes.empty()) return;
  const std::size_t kept = total_bytes_ % kBlockBytes;
  total_bytes_ += bytes.size();
  if (kept > 0) {
    const std::size_t taken = std::min(kBlockBytes - kept, bytes.size());
    std::memcpy(rest_.data() + kept, bytes.data(), taken);
    bytes = bytes.subspan(taken);
    if (kept + taken < kBlockBytes) return;
    take(rest_.data(), 1);
  }
  const std::size_t blocks = bytes.size() / kBlockBytes;
  take(bytes.data(), blocks);
  bytes = bytes.subspan(blocks * kBlockBytes);
  if (!bytes.empty()) std::memcpy(rest_.data(), bytes.data(), bytes.size());
}

std::string Sha256::finish() {
  const std::uint64_t bits = 8 * total_bytes_;
  const std::size_t kept = total_bytes_ % kBlockBytes;
  constexpr std::size_t kLengthBytes = 8;
  // A one, zeros, and the length at the end of a block.
  std::array<std::byte, 2 * kBlockBytes> end{};
  end[0] = std::byte{0x80};
  const std::size_t padding = (kept < kBlockBytes - kLengthBytes ? 1 : 2) * kBlockBytes - kept;
  for (std::size_t k = 0; k < kLengthBytes; ++k) {
    end[padding - 1 - k] = static_cast<std::byte>(bits >> 8 * k & 0xFFU);
  }
  update({end.data(), padding});
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint32_t word : state_) {
    for (unsigned shift = 32; shift > 0; shift -= 4) text.push_back(kDigits[word >> (shift - 4) & 0xFU]);
  }
  return text;
}

bool is_sha256(std::string_view text) noexcept {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.finish();
}

}  // namespace routellm_fast
