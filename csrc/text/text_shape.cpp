#include "text/text_shape.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace routellm_fast {
namespace {

enum Class : std::uint8_t {
  kBlank = 1,
  kDigit = 2,
  kLetter = 4,
  kContinuation = 8,  // of a character beyond ASCII, which its first byte has counted
  kPoint = 16,        // . and ,
  kEndMark = 32,      // . ! ?
  kLine = 64,
  kUnderscore = 128
};

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (unsigned c = '\t'; c <= '\r'; ++c) classes[c] |= kBlank;
  classes[' '] |= kBlank;
  for (unsigned c = '0'; c <= '9'; ++c) classes[c] |= kDigit;
  for (unsigned c = 'a'; c <= 'z'; ++c) classes[c] |= kLetter;
  for (unsigned c = 'A'; c <= 'Z'; ++c) classes[c] |= kLetter;
  for (unsigned c = 0x80; c <= 0xFF; ++c) classes[c] |= kLetter;
  for (unsigned c = 0x80; c <= 0xBF; ++c) classes[c] |= kContinuation;
  for (const char c : std::string_view(".,")) classes[static_cast<unsigned char>(c)] |= kPoint;
  for (const char c : std::string_view(".!?")) classes[static_cast<unsigned char>(c)] |= kEndMark;
  classes['\n'] |= kLine;
  classes['_'] |= kUnderscore;
  return classes;
}

constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

std::uint8_t class_of(char c) noexcept { return kClasses[static_cast<unsigned char>(c)]; }

constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// A word of up to eight bytes as one number; longer ones have no zero byte, and so equal none.
constexpr std::uint64_t packed(std::string_view word) noexcept {
  std::uint64_t number = 0;
  for (const char c : word) number = number << 8U | static_cast<unsigned char>(c);
  return number;
}

constexpr std::array kPersonalWords{packed("i"),   packed("me"),  packed("my"),   packed("we"),    packed("us"),
                                    packed("our"), packed("you"), packed("your"), packed("please")};
constexpr std::size_t kLongestPersonalWord = 6;
constexpr std::size_t kLongWord = 10;

// Both in alphabetical order.
constexpr std::array<std::string_view, 9> kQuestionWords{"how", "what", "when",  "where", "which",
                                                         "who", "whom", "whose", "why"};
constexpr std::array<std::string_view, 54> kImperatives{
    "act",     "answer",   "calculate", "classify",  "compare", "complete",  "compose", "compute",  "convert",
    "correct", "create",   "define",    "describe",  "design",  "determine", "develop", "discuss",  "draft",
    "edit",    "estimate", "evaluate",  "explain",   "extract", "find",      "fix",     "generate", "give",
    "help",    "identify", "imagine",   "implement", "improve", "list",      "make",    "name",     "outline",
    "plan",    "predict",  "prove",     "provide",   "rank",    "rewrite",   "select",  "show",     "simplify",
    "solve",   "suggest",  "summarise", "summarize", "tell",    "translate", "turn",    "use",      "write"};
constexpr std::size_t kLongestOpening = 9;
static_assert(std::ranges::is_sorted(kQuestionWords) && std::ranges::is_sorted(kImperatives));

// How far the beginning of a line looks like that of an option.
enum class Option : std::uint8_t { kNone, kIndent, kOpened, kLabelled, kMarked };

Option after(Option state, char c) noexcept {
  const bool is_label = (lower(c) >= 'a' && lower(c) <= 'j') || (c >= '1' && c <= '9');
  switch (state) {
    case Option::kIndent:
      if (c == ' ' || c == '\t') return Option::kIndent;
      if (c == '(' || c == '[') return Option::kOpened;
      return is_label ? Option::kLabelled : Option::kNone;
    case Option::kOpened:
      return is_label ? Option::kLabelled : Option::kNone;
    case Option::kLabelled:
      return c == '.' || c == ')' || c == ':' || c == ']' ? Option::kMarked : Option::kNone;
    case Option::kNone:
    case Option::kMarked:
      break;
  }
  return Option::kNone;
}

class Scan {
 public:
  void read(std::string_view part) noexcept {
    for (const char c : part) read(c, class_of(c));
  }

  TextShape finish() noexcept {
    read(' ', kBlank);  // ends what the last byte may have ended
    --shape_.blanks;
    if (shape_.options == 0) shape_.stem_words = shape_.words;
    return shape_;
  }

 private:
  void read(char c, std::uint8_t now) noexcept {
    shape_.blanks += now & kBlank;
    shape_.words += last_ & ~now & kBlank;
    shape_.sentence_ends += static_cast<std::size_t>((last_ & kEndMark) != 0 && (now & kBlank) != 0);
    shape_.has_underscore |= (now & kUnderscore) != 0;
    const bool goes_on = (last_ & kDigit) != 0 || ((last_ & kPoint) != 0 && (before_ & kDigit) != 0);
    shape_.numbers += static_cast<std::size_t>((now & kDigit) != 0 && !goes_on);
    if ((now & kLetter) != 0) {
      letters_ += static_cast<std::size_t>((now & kContinuation) == 0);
      word_ = word_ << 8U | static_cast<unsigned char>(lower(c));
    } else if ((last_ & kLetter) != 0) {
      end_letters();
    }
    if (option_ != Option::kNone) read_option(c, now);
    if ((now & kLine) != 0) {
      option_ = Option::kIndent;
      words_before_ = shape_.words;
    }
    before_ = last_;
    last_ = now;
  }

  void end_letters() noexcept {
    shape_.long_words += static_cast<std::size_t>(letters_ >= kLongWord);
    if (letters_ <= kLongestPersonalWord && std::ranges::find(kPersonalWords, word_) != kPersonalWords.end()) {
      ++shape_.personal_words;
    }
    letters_ = 0;
    word_ = 0;
  }

  void read_option(char c, std::uint8_t now) noexcept {
    if (option_ == Option::kMarked && (now & kBlank) != 0 && shape_.options++ == 0) shape_.stem_words = words_before_;
    option_ = after(option_, c);
  }

  TextShape shape_;
  std::uint8_t last_ = kBlank;
  std::uint8_t before_ = kBlank;
  std::size_t letters_ = 0;       // of the run that is being read
  std::uint64_t word_ = 0;        // its last eight bytes
  std::size_t words_before_ = 0;  // the line that is being read
  Option option_ = Option::kIndent;
};

// Reads the first run of letters that both parts have, as far as it may be a word that opens a request.
class Opening {
 public:
  // Returns whether the run has ended.
  bool read(std::string_view part) noexcept {
    return std::ranges::any_of(part, [this](char c) { return read(c); });
  }

  [[nodiscard]] bool is_among(std::span<const std::string_view> words) const noexcept {
    return std::ranges::binary_search(words, std::string_view(letters_.data(), length_));
  }

 private:
  bool read(char c) noexcept {
    if ((class_of(c) & kLetter) == 0) return length_ > 0;
    if (length_ == letters_.size()) return true;
    letters_[length_++] = lower(c);
    return false;
  }

  std::array<char, kLongestOpening + 1> letters_{};
  std::size_t length_ = 0;
};

std::optional<char> last_of(std::string_view part) noexcept {
  const std::size_t last = part.find_last_not_of(" \t\n\v\f\r");
  return last == std::string_view::npos ? std::nullopt : std::optional(part[last]);
}

}  // namespace

TextShape shape_of(const Excerpt& read) noexcept {
  Scan scan;
  scan.read(read.head);
  scan.read(read.tail);
  TextShape shape = scan.finish();
  Opening opening;
  if (!opening.read(read.head)) (void)opening.read(read.tail);
  shape.starts_with_imperative = opening.is_among(kImperatives);
  shape.starts_with_question_word = opening.is_among(kQuestionWords);
  std::optional<char> last = last_of(read.tail);
  if (!last) last = last_of(read.head);
  shape.ends_with_question_mark = last == '?';
  shape.ends_with_colon = last == ':';
  return shape;
}

}  // namespace routellm_fast
