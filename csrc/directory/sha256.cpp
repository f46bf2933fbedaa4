#include "directory/sha256.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace routellm_fast {
namespace {

// The first 32 bits of the fractions of the cube roots of the first 64 primes.
constexpr std::array<std::uint32_t, 64> kRound{
    0x428A2F98U, 0x71374491U, 0xB5C0FBCFU, 0xE9B5DBA5U, 0x3956C25BU, 0x59F111F1U, 0x923F82A4U, 0xAB1C5ED5U,
    0xD807AA98U, 0x12835B01U, 0x243185BEU, 0x550C7DC3U, 0x72BE5D74U, 0x80DEB1FEU, 0x9BDC06A7U, 0xC19BF174U,
    0xE49B69C1U, 0xEFBE4786U, 0x0FC19DC6U, 0x240CA1CCU, 0x2DE92C6FU, 0x4A7484AAU, 0x5CB0A9DCU, 0x76F988DAU,
    0x983E5152U, 0xA831C66DU, 0xB00327C8U, 0xBF597FC7U, 0xC6E00BF3U, 0xD5A79147U, 0x06CA6351U, 0x14292967U,
    0x27B70A85U, 0x2E1B2138U, 0x4D2C6DFCU, 0x53380D13U, 0x650A7354U, 0x766A0ABBU, 0x81C2C92EU, 0x92722C85U,
    0xA2BFE8A1U, 0xA81A664BU, 0xC24B8B70U, 0xC76C51A3U, 0xD192E819U, 0xD6990624U, 0xF40E3585U, 0x106AA070U,
    0x19A4C116U, 0x1E376C08U, 0x2748774CU, 0x34B0BCB5U, 0x391C0CB3U, 0x4ED8AA4AU, 0x5B9CCA4FU, 0x682E6FF3U,
    0x748F82EEU, 0x78A5636FU, 0x84C87814U, 0x8CC70208U, 0x90BEFFFAU, 0xA4506CEBU, 0xBEF9A3F7U, 0xC67178F2U};

std::uint32_t big_endian(const std::byte* p) noexcept {
  return std::to_integer<std::uint32_t>(p[0]) << 24U | std::to_integer<std::uint32_t>(p[1]) << 16U |
         std::to_integer<std::uint32_t>(p[2]) << 8U | std::to_integer<std::uint32_t>(p[3]);
}

}  // namespace

void Sha256::compress(const std::byte* block) noexcept {
  std::array<std::uint32_t, 64> w;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled below
  for (std::size_t t = 0; t < 16; ++t) w[t] = big_endian(block + 4 * t);
  for (std::size_t t = 16; t < w.size(); ++t) {
    const std::uint32_t before = w[t - 15];
    const std::uint32_t last = w[t - 2];
    w[t] = w[t - 16] + (std::rotr(before, 7) ^ std::rotr(before, 18) ^ before >> 3U) + w[t - 7] +
           (std::rotr(last, 17) ^ std::rotr(last, 19) ^ last >> 10U);
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t t = 0; t < w.size(); ++t) {
    const std::uint32_t first =
        h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[t] + w[t];
    const std::uint32_t second =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  const std::array<std::uint32_t, 8> added{a, b, c, d, e, f, g, h};
  for (std::size_t k = 0; k < added.size(); ++k) state_[k] += added[k];
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
    compress(rest_.data());
  }
  for (; bytes.size() >= kBlockBytes; bytes = bytes.subspan(kBlockBytes)) compress(bytes.data());
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

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.finish();
}

}  // namespace routellm_fast
