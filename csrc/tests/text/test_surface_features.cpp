#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"
#include "text/surface_features.hpp"

namespace routellm_fast {
namespace {

using enum SurfaceFeature;
constexpr std::array kAll{kConstant,      kLogTokens,      kDigitShare, kCodeMarkShare, kQuestionMarks,
                          kNonAsciiShare, kUppercaseShare, kLogLines,   kLogDigits,     kLogCodeMarks};

std::array<float, 10> features_of(std::string_view text, std::size_t tokens) {
  std::array<float, 10> out{};
  write_surface_features(Excerpt::of(text), tokens, kAll, out.data());
  return out;
}

TEST_CASE("each feature counts what its name says") {
  const auto f = features_of("Is 12 {x}?\n\xC3\xA9?", 9);  // 13 characters in 14 bytes
  CHECK(f[0] == 1.0F);
  CHECK(f[1] == std::log1p(9.0F));
  CHECK(f[2] == 2.0F / 13.0F);
  CHECK(f[3] == 2.0F / 13.0F);
  CHECK(f[4] == std::log1p(2.0F));
  CHECK(f[5] == 2.0F / 14.0F);
  CHECK(f[6] == 1.0F / 13.0F);
  CHECK(f[7] == std::log1p(1.0F));
  CHECK(f[8] == std::log1p(2.0F));
  CHECK(f[9] == std::log1p(2.0F));
}

TEST_CASE("two ends count together") {
  std::array<float, 10> found{};
  write_surface_features({"Is 12 {x", "}?\n\xC3\xA9?", 1000}, 9, kAll, found.data());
  CHECK(found == features_of("Is 12 {x}?\n\xC3\xA9?", 9));
}

TEST_CASE("the empty text has finite features") {
  for (const float value : features_of("", 0)) CHECK((value == 0.0F || value == 1.0F));
}

TEST_CASE("counters do not overflow on long runs") {
  const auto f = features_of(std::string(100'000, '7'), 512);
  CHECK(f[2] == 1.0F);
  CHECK(features_of(std::string(100'000, '?'), 512)[4] == std::log1p(100'000.0F));
}

TEST_CASE("names are read back, and an unknown one is refused with the known ones") {
  for (const SurfaceFeature feature : kAll) CHECK(parse_surface_feature(surface_feature_name(feature)) == feature);
  CHECK_THROWS_WITH_AS((void)parse_surface_feature("mood"), doctest::Contains("log_tokens"), Error);
}

}  // namespace
}  // namespace routellm_fast
