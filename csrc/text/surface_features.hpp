#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/excerpt.hpp"

namespace routellm_fast {

/// Simple properties of a prompt's text, which are extra dimensions after those of the tokens. A mean of token vectors
/// that is scaled to unit length has lost them, and the length of a prompt alone predicts well.
enum class SurfaceFeature : std::uint8_t {
  kConstant,        // 1, so that a linear scorer has an intercept
  kLogTokens,       // log(1 + number of tokens)
  kDigitShare,      // ASCII digits / characters
  kCodeMarkShare,   // the characters {}[]()<>=;_\|#$*/+`~^&%@ / characters
  kQuestionMarks,   // log(1 + number of '?')
  kNonAsciiShare,   // bytes >= 0x80 / bytes, in UTF-8
  kUppercaseShare,  // ASCII capitals / characters
  kLogLines,        // log(1 + number of line feeds)
  kLogDigits,       // log(1 + number of ASCII digits)
  kLogCodeMarks,    // log(1 + number of the characters of kCodeMarkShare)
  // Of the text's words and lines; see TextShape.
  kMultipleChoice,         // 1 where two lines or more are options
  kLogOptions,             // log(1 + options), 0 below two
  kLogStemWords,           // log(1 + words before the first option), all words where there are not two options
  kLogOptionWords,         // log(1 + words from the first option on / options), 0 below two options
  kLogNumbers,             // log(1 + numbers)
  kLogMathMarks,           // log(1 + number of the characters $\^{})
  kLogSentenceEnds,        // log(1 + ends of sentences)
  kLogPersonalWords,       // log(1 + words such as I, you, please)
  kLogWordLength,          // log(1 + characters that are no blanks / words)
  kLongWordShare,          // words of ten letters or more / words
  kHasQuestionMark,        // 1 where there is a '?'
  kHasUnderscore,          // 1 where there is a '_'
  kEndsWithQuestionMark,   // 1 where '?' stands last, blanks aside
  kEndsWithColon,          // 1 where ':' stands last, blanks aside
  kStartsWithImperative,   // 1 where the first word is one such as "Write"
  kStartsWithQuestionWord  // 1 where the first word is one such as "Which"
};

/// The name used in artifacts, e.g. "log_tokens".
[[nodiscard]] std::string_view surface_feature_name(SurfaceFeature feature) noexcept;

/// The names of all features.
[[nodiscard]] std::vector<std::string_view> surface_feature_names();

/// The feature with this name. Throws Error(kInvalidArgument), which lists the known names.
[[nodiscard]] SurfaceFeature parse_surface_feature(std::string_view name);

/// Writes features[k] of the text to out[k]. `read` is what the tokenizer has read of it and `token_count` its number
/// of tokens. The empty text has all shares zero. Allocates nothing.
void write_surface_features(const Excerpt& read, std::size_t token_count, std::span<const SurfaceFeature> features,
                            float* out) noexcept;

}  // namespace routellm_fast
