#pragma once

#include <cstdint>
#include <vector>

#include "text/unicode_tables.hpp"

namespace routellm_fast {

struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

/// Normalizes text and splits it into words as BERT does, one code point at a time. Results go to a sink with three
/// functions:
///   text(char32_t)         the next code point of the current word
///   punctuation(char32_t)  ends the current word and is a word of its own
///   boundary()             ends the current word, if there is one
class BertNormalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options) noexcept : options_(options) {}

  template <class Sink>
  void push(char32_t raw, Sink& sink) {
    using unicode::CodePointFacts;
    const CodePointFacts& facts = unicode::facts(raw);
    if (options_.clean_text && facts.has(CodePointFacts::kDropped)) return;
    const bool is_word = options_.handle_chinese_chars && facts.has(CodePointFacts::kIdeograph);
    if (is_word) finish(sink);
    if (!options_.strip_accents) {
      emit(raw, facts, sink);
    } else if (!facts.has(CodePointFacts::kDecomposes)) {
      strip(raw, facts, sink);
    } else {
      char32_t hangul[kMaxHangulParts];
      for (const char32_t part : decompose(raw, hangul)) strip(part, unicode::facts(part), sink);
    }
    if (is_word) finish(sink);
  }

  /// Ends the current word.
  template <class Sink>
  void finish(Sink& sink) {
    release(sink);
    sink.boundary();
  }

  /// Whether combining marks are held back: only the next base character or finish() decides their canonical order.
  [[nodiscard]] bool holds_marks() const noexcept { return !held_.empty(); }

 private:
  static constexpr std::size_t kMaxHangulParts = 3;

  static std::span<const char32_t> decompose(char32_t c, char32_t (&hangul)[kMaxHangulParts]) noexcept;

  // Nonspacing marks are dropped after canonical ordering, which never moves the others past one another. So only marks
  // that stay, of which there are few, have to be held and sorted.
  template <class Sink>
  void strip(char32_t c, const unicode::CodePointFacts& facts, Sink& sink) {
    const bool dropped = facts.has(unicode::CodePointFacts::kNonspacingMark);
    if (facts.combining_class != 0) {
      if (!dropped) held_.push_back(c);
      return;
    }
    release(sink);
    if (!dropped) emit(c, facts, sink);
  }

  template <class Sink>
  void release(Sink& sink) {
    if (held_.empty()) return;
    sort_held();
    for (const char32_t mark : held_) emit(mark, unicode::facts(mark), sink);
    held_.clear();
  }

  template <class Sink>
  void emit(char32_t c, const unicode::CodePointFacts& facts, Sink& sink) {
    if (!options_.lowercase || facts.lower_delta == 0) {
      split(c, facts, sink);
      return;
    }
    const auto lower = static_cast<char32_t>(static_cast<std::int32_t>(c) + facts.lower_delta);
    split(lower, unicode::facts(lower), sink);
    if (c == unicode::kCapitalIWithDot) {
      split(unicode::kCombiningDotAbove, unicode::facts(unicode::kCombiningDotAbove), sink);
    }
  }

  template <class Sink>
  void split(char32_t c, const unicode::CodePointFacts& facts, Sink& sink) {
    if (facts.has(unicode::CodePointFacts::kWhitespace)) {
      sink.boundary();
    } else if (facts.has(unicode::CodePointFacts::kPunctuation)) {
      sink.punctuation(c);
    } else {
      sink.text(c);
    }
  }

  void sort_held();

  BertNormalizerOptions options_;
  std::vector<char32_t> held_;
};

}  // namespace routellm_fast
