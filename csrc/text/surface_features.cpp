#include "text/surface_features.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"
#include "text/text_shape.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

struct NamedFeature {
  SurfaceFeature feature;
  std::string_view name;
};

constexpr std::array<NamedFeature, 26> kNames{{
    {SurfaceFeature::kConstant, "constant"},
    {SurfaceFeature::kLogTokens, "log_tokens"},
    {SurfaceFeature::kDigitShare, "digit_share"},
    {SurfaceFeature::kCodeMarkShare, "code_mark_share"},
    {SurfaceFeature::kQuestionMarks, "question_marks"},
    {SurfaceFeature::kNonAsciiShare, "non_ascii_share"},
    {SurfaceFeature::kUppercaseShare, "uppercase_share"},
    {SurfaceFeature::kLogLines, "log_lines"},
    {SurfaceFeature::kLogDigits, "log_digits"},
    {SurfaceFeature::kLogCodeMarks, "log_code_marks"},
    {SurfaceFeature::kMultipleChoice, "multiple_choice"},
    {SurfaceFeature::kLogOptions, "log_options"},
    {SurfaceFeature::kLogStemWords, "log_stem_words"},
    {SurfaceFeature::kLogOptionWords, "log_option_words"},
    {SurfaceFeature::kLogNumbers, "log_numbers"},
    {SurfaceFeature::kLogMathMarks, "log_math_marks"},
    {SurfaceFeature::kLogSentenceEnds, "log_sentence_ends"},
    {SurfaceFeature::kLogPersonalWords, "log_personal_words"},
    {SurfaceFeature::kLogWordLength, "log_word_length"},
    {SurfaceFeature::kLongWordShare, "long_word_share"},
    {SurfaceFeature::kHasQuestionMark, "has_question_mark"},
    {SurfaceFeature::kHasUnderscore, "has_underscore"},
    {SurfaceFeature::kEndsWithQuestionMark, "ends_with_question_mark"},
    {SurfaceFeature::kEndsWithColon, "ends_with_colon"},
    {SurfaceFeature::kStartsWithImperative, "starts_with_imperative"},
    {SurfaceFeature::kStartsWithQuestionWord, "starts_with_question_word"},
}};

// Eight counters of eight bits packed in one word, so that a byte of text costs one load and one addition.
enum Lane : std::uint8_t {
  kDigit,
  kCodeMark,
  kQuestion,
  kNonAscii,
  kUppercase,
  kLine,
  kContinuation,
  kMathMark,
  kLaneCount
};

constexpr std::uint64_t one(Lane lane) { return std::uint64_t{1} << (8U * static_cast<unsigned>(lane)); }

constexpr std::array<std::uint64_t, 256> make_lanes() {
  std::array<std::uint64_t, 256> lanes{};
  for (unsigned c = '0'; c <= '9'; ++c) lanes[c] += one(kDigit);
  for (unsigned c = 'A'; c <= 'Z'; ++c) lanes[c] += one(kUppercase);
  for (const char c : std::string_view("{}[]()<>=;_\\|#$*/+`~^&%@"))
    lanes[static_cast<unsigned char>(c)] += one(kCodeMark);
  for (const char c : std::string_view("$\\^{}")) lanes[static_cast<unsigned char>(c)] += one(kMathMark);
  lanes['?'] += one(kQuestion);
  lanes['\n'] += one(kLine);
  for (unsigned c = 0x80; c <= 0xFF; ++c) lanes[c] += one(kNonAscii);
  for (unsigned c = 0x80; c <= 0xBF; ++c) lanes[c] += one(kContinuation);
  return lanes;
}

constexpr std::array<std::uint64_t, 256> kLanes = make_lanes();
constexpr std::size_t kBytesPerSpill = 255;  // no eight-bit lane can overflow

using Counts = std::array<std::size_t, kLaneCount>;

Counts count(std::string_view utf8) noexcept {
  Counts counts{};
  for (std::size_t begin = 0; begin < utf8.size(); begin += kBytesPerSpill) {
    std::uint64_t packed = 0;
    for (const char c : utf8.substr(begin, kBytesPerSpill)) packed += kLanes[static_cast<unsigned char>(c)];
    for (std::size_t lane = 0; lane < kLaneCount; ++lane) counts[lane] += (packed >> (8U * lane)) & 0xFFU;
  }
  return counts;
}

Counts count(const Excerpt& text) noexcept {
  Counts counts = count(text.head);
  if (text.tail.empty()) return counts;
  const Counts more = count(text.tail);
  for (std::size_t lane = 0; lane < kLaneCount; ++lane) counts[lane] += more[lane];
  return counts;
}

bool needs_counts(SurfaceFeature feature) noexcept {
  return feature != SurfaceFeature::kConstant && feature != SurfaceFeature::kLogTokens;
}

bool needs_shape(SurfaceFeature feature) noexcept { return feature >= SurfaceFeature::kMultipleChoice; }

float share(std::size_t part, std::size_t whole) noexcept {
  return whole == 0 ? 0.0F : static_cast<float>(part) / static_cast<float>(whole);
}

float flag(bool holds) noexcept { return holds ? 1.0F : 0.0F; }

float log_of(std::size_t n) noexcept { return std::log1p(static_cast<float>(n)); }

}  // namespace

std::string_view surface_feature_name(SurfaceFeature feature) noexcept {
  for (const NamedFeature& entry : kNames) {
    if (entry.feature == feature) return entry.name;
  }
  return "unknown";
}

std::vector<std::string_view> surface_feature_names() {
  std::vector<std::string_view> names;
  names.reserve(kNames.size());
  for (const NamedFeature& entry : kNames) names.push_back(entry.name);
  return names;
}

SurfaceFeature parse_surface_feature(std::string_view name) {
  std::string known;
  for (const NamedFeature& entry : kNames) {
    if (entry.name == name) return entry.feature;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "unknown surface feature '" + shown(name) + "': expected some of " + known + ".");
}

void write_surface_features(const Excerpt& read, std::size_t token_count, std::span<const SurfaceFeature> features,
                            float* out) noexcept {
  const Counts counts = std::ranges::any_of(features, needs_counts) ? count(read) : Counts{};
  const TextShape shape = std::ranges::any_of(features, needs_shape) ? shape_of(read) : TextShape{};
  const std::size_t bytes = read.head.size() + read.tail.size();
  const std::size_t characters = bytes - counts[kContinuation];
  const std::size_t options = shape.options < 2 ? 0 : shape.options;
  const std::size_t stem_words = options == 0 ? shape.words : shape.stem_words;
  const auto value_of = [&](SurfaceFeature feature) {
    switch (feature) {
      case SurfaceFeature::kConstant:
        return 1.0F;
      case SurfaceFeature::kLogTokens:
        return log_of(token_count);
      case SurfaceFeature::kDigitShare:
        return share(counts[kDigit], characters);
      case SurfaceFeature::kCodeMarkShare:
        return share(counts[kCodeMark], characters);
      case SurfaceFeature::kQuestionMarks:
        return log_of(counts[kQuestion]);
      case SurfaceFeature::kNonAsciiShare:
        return share(counts[kNonAscii], bytes);
      case SurfaceFeature::kUppercaseShare:
        return share(counts[kUppercase], characters);
      case SurfaceFeature::kLogLines:
        return log_of(counts[kLine]);
      case SurfaceFeature::kLogDigits:
        return log_of(counts[kDigit]);
      case SurfaceFeature::kLogCodeMarks:
        return log_of(counts[kCodeMark]);
      case SurfaceFeature::kMultipleChoice:
        return flag(options > 0);
      case SurfaceFeature::kLogOptions:
        return log_of(options);
      case SurfaceFeature::kLogStemWords:
        return log_of(stem_words);
      case SurfaceFeature::kLogOptionWords:
        return std::log1p(share(shape.words - stem_words, options));
      case SurfaceFeature::kLogNumbers:
        return log_of(shape.numbers);
      case SurfaceFeature::kLogMathMarks:
        return log_of(counts[kMathMark]);
      case SurfaceFeature::kLogSentenceEnds:
        return log_of(shape.sentence_ends);
      case SurfaceFeature::kLogPersonalWords:
        return log_of(shape.personal_words);
      case SurfaceFeature::kLogWordLength:
        return std::log1p(share(characters - shape.blanks, shape.words));
      case SurfaceFeature::kLongWordShare:
        return share(shape.long_words, shape.words);
      case SurfaceFeature::kHasQuestionMark:
        return flag(counts[kQuestion] > 0);
      case SurfaceFeature::kHasUnderscore:
        return flag(shape.has_underscore);
      case SurfaceFeature::kEndsWithQuestionMark:
        return flag(shape.ends_with_question_mark);
      case SurfaceFeature::kEndsWithColon:
        return flag(shape.ends_with_colon);
      case SurfaceFeature::kStartsWithImperative:
        return flag(shape.starts_with_imperative);
      case SurfaceFeature::kStartsWithQuestionWord:
        return flag(shape.starts_with_question_word);
    }
    return 0.0F;
  };
  std::ranges::transform(features, out, value_of);
}

}  // namespace routellm_fast
