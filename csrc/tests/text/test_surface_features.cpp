#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"
#include "text/surface_features.hpp"
#include "text/text_shape.hpp"

namespace routellm_fast {
namespace {

using enum SurfaceFeature;
constexpr std::array kAll{kConstant,
                          kLogTokens,
                          kDigitShare,
                          kCodeMarkShare,
                          kQuestionMarks,
                          kNonAsciiShare,
                          kUppercaseShare,
                          kLogLines,
                          kLogDigits,
                          kLogCodeMarks,
                          kMultipleChoice,
                          kLogOptions,
                          kLogStemWords,
                          kLogOptionWords,
                          kLogNumbers,
                          kLogMathMarks,
                          kLogSentenceEnds,
                          kLogPersonalWords,
                          kLogWordLength,
                          kLongWordShare,
                          kHasQuestionMark,
                          kHasUnderscore,
                          kEndsWithQuestionMark,
                          kEndsWithColon,
                          kStartsWithImperative,
                          kStartsWithQuestionWord};
using Features = std::array<float, kAll.size()>;

Features features_of(std::string_view text, std::size_t tokens) {
  Features out{};
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
  Features found{};
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

// tests/unit/embedders/test_surface_features.py compares every feature with its restatement in Python.
TEST_CASE("the shape of a text is the same wherever it is cut in two") {
  const std::string text = "Which is it?\n (a) 1.5 apples\r\n(b) 2,000 caf\xC3\xA9s _\nPlease answer me:  ";
  const TextShape whole = shape_of(Excerpt::of(text));
  CHECK(whole.options == 2);
  CHECK(whole.stem_words == 3);
  CHECK(whole.numbers == 2);
  CHECK(whole.personal_words == 2);
  CHECK(whole.ends_with_colon);
  CHECK(whole.starts_with_question_word);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view view = text;
    CHECK(shape_of({view.substr(0, cut), view.substr(cut), text.size()}) == whole);
  }
}

TEST_CASE("names are read back, and an unknown one is refused with the known ones") {
  for (const SurfaceFeature feature : kAll) CHECK(parse_surface_feature(surface_feature_name(feature)) == feature);
  CHECK_THROWS_WITH_AS((void)parse_surface_feature("mood"), doctest::Contains("log_tokens"), Error);
}

}  // namespace
}  // namespace routellm_fast
