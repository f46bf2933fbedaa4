#include "text/surface_features.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

struct NamedFeature {
  SurfaceFeature feature;
  std::string_view name;
};

constexpr std::array<NamedFeature, 10> kNames{{{SurfaceFeature::kConstant, "constant"},
                                               {SurfaceFeature::kLogTokens, "log_tokens"},
                                               {SurfaceFeature::kDigitShare, "digit_share"},
                                               {SurfaceFeature::kCodeMarkShare, "code_mark_share"},
                                               {SurfaceFeature::kQuestionMarks, "question_marks"},
                                               {SurfaceFeature::kNonAsciiShare, "non_ascii_share"},
                                               {SurfaceFeature::kUppercaseShare, "uppercase_share"},
                                               {SurfaceFeature::kLogLines, "log_lines"},
                                               {SurfaceFeature::kLogDigits, "log_digits"},
                                               {SurfaceFeature::kLogCodeMarks, "log_code_marks"}}};

// Seven counters of eight bits packed in one word, so that a byte of text costs one load and one addition.
enum Lane : std::uint8_t { kDigit, kCodeMark, kQuestion, kNonAscii, kUppercase, kLine, kContinuation, kLaneCount };

constexpr std::uint64_t one(Lane lane) { return std::uint64_t{1} << (8U * static_cast<unsigned>(lane)); }

constexpr std::array<std::uint64_t, 256> make_lanes() {
  std::array<std::uint64_t, 256> lanes{};
  for (unsigned c = '0'; c <= '9'; ++c) lanes[c] += one(kDigit);
  for (unsigned c = 'A'; c <= 'Z'; ++c) lanes[c] += one(kUppercase);
  for (const char c : std::string_view("{}[]()<>=;_\\|#$*/+`~^&%@"))
    lanes[static_cast<unsigned char>(c)] += one(kCodeMark);
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

float share(std::size_t part, std::size_t whole) noexcept {
  return whole == 0 ? 0.0F : static_cast<float>(part) / static_cast<float>(whole);
}

float log_of(std::size_t n) noexcept { return std::log1p(static_cast<float>(n)); }

}  // namespace

std::string_view surface_feature_name(SurfaceFeature feature) noexcept {
  for (const NamedFeature& entry : kNames) {
    if (entry.feature == feature) return entry.name;
  }
  return "unknown";
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
  const bool counting = std::ranges::any_of(features, needs_counts);
  const Counts counts = counting ? count(read) : Counts{};
  const std::size_t bytes = read.head.size() + read.tail.size();
  const std::size_t characters = bytes - counts[kContinuation];
  for (std::size_t k = 0; k < features.size(); ++k) {
    switch (features[k]) {
      case SurfaceFeature::kConstant:
        out[k] = 1.0F;
        break;
      case SurfaceFeature::kLogTokens:
        out[k] = log_of(token_count);
        break;
      case SurfaceFeature::kDigitShare:
        out[k] = share(counts[kDigit], characters);
        break;
      case SurfaceFeature::kCodeMarkShare:
        out[k] = share(counts[kCodeMark], characters);
        break;
      case SurfaceFeature::kQuestionMarks:
        out[k] = log_of(counts[kQuestion]);
        break;
      case SurfaceFeature::kNonAsciiShare:
        out[k] = share(counts[kNonAscii], bytes);
        break;
      case SurfaceFeature::kUppercaseShare:
        out[k] = share(counts[kUppercase], characters);
        break;
      case SurfaceFeature::kLogLines:
        out[k] = log_of(counts[kLine]);
        break;
      case SurfaceFeature::kLogDigits:
        out[k] = log_of(counts[kDigit]);
        break;
      case SurfaceFeature::kLogCodeMarks:
        out[k] = log_of(counts[kCodeMark]);
        break;
    }
  }
}

}  // namespace routellm_fast
