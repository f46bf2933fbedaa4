#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "directory/sha256.hpp"
#include "dispatch/kernels.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

std::string digest(const std::string& text) { return sha256_of(std::as_bytes(std::span(text))); }

TEST_CASE("the vectors of FIPS 180-4") {
  CHECK(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnop"
               "qrstnopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(digest(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("pieces of any length make the digest of the whole") {
  std::string text;
  for (int i = 0; i < 300; ++i) text.push_back(static_cast<char>(i * 7));
  for (std::size_t length = 0; length <= text.size(); ++length) {
    const auto bytes = std::as_bytes(std::span(text)).first(length);
    for (const std::size_t piece : {1U, 3U, 63U, 64U, 65U}) {
      Sha256 parts;
      for (std::size_t at = 0; at < length; at += piece) parts.update(bytes.subspan(at, std::min(piece, length - at)));
      CHECK(parts.finish() == sha256_of(bytes));
    }
  }
}

TEST_CASE("the processor's own instructions and the plain code agree on any block") {
  std::mt19937 random(1);
  std::vector<std::uint8_t> blocks(64 * 33);
  for (std::uint8_t& byte : blocks) byte = static_cast<std::uint8_t>(random());
  for (const std::size_t count : {0U, 1U, 2U, 33U}) {
    std::array<std::uint32_t, 8> plain{1, 2, 3, 4, 0xFFFFFFFFU, 6, 7, 0x80000000U};
    std::array<std::uint32_t, 8> chosen = plain;
    sha256_blocks_scalar(plain.data(), blocks.data(), count);
    sha256_blocks()(chosen.data(), blocks.data(), count);
    CHECK(plain == chosen);
  }
}

}  // namespace
}  // namespace routellm_fast
