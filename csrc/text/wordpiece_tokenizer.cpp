#include "text/wordpiece_tokenizer.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "text/added_token_matcher.hpp"
#include "text/ascii_swar.hpp"
#include "text/bert_normalizer.hpp"
#include "text/piece_matcher.hpp"
#include "text/utf8_decoder.hpp"
#include "text/utf8_text.hpp"
#include "text/word_table.hpp"

namespace routellm_fast {
namespace {

/// How the fast path treats a byte of the text.
enum class ByteClass : std::uint8_t {
  kAlphanumeric,  // part of a word that is easy to normalize
  kSpace,         // ends a word
  kPunctuation,   // ends a word and is one
  kStop,          // ends a word; the general path reads it
  kJoin,          // may be part of a word; the general path reads the whole word
};

PackedWord pack(std::string_view word) noexcept {
  const std::string_view behind = word.substr(std::min(word.size(), kWordBytes));
  return {.low = load(word), .high = load(behind)};
}

std::size_t code_point_count(std::string_view utf8) noexcept {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  return static_cast<std::size_t>(std::ranges::count_if(utf8, starts));
}

bool is_ascii(char c) noexcept { return static_cast<unsigned char>(c) < 0x80; }

/// Whether word splitting would cut this piece of the vocabulary, so that it can never match.
bool is_unreachable(std::string_view piece) noexcept {
  using unicode::CodePointFacts;
  const auto cuts = [](char c) {
    const CodePointFacts& facts = unicode::facts(static_cast<unsigned char>(c) & 0x7FU);
    return is_ascii(c) && (facts.has(CodePointFacts::kWhitespace) || facts.has(CodePointFacts::kPunctuation));
  };
  return piece.size() > 1 && std::ranges::any_of(piece, cuts);
}

/// The vocabulary's tokens, divided into those that begin words and those that continue words.
struct Pieces {
  std::vector<Piece> initial;
  std::vector<Piece> continuing;
};

Pieces sort_pieces(std::span<const std::string> vocabulary, const WordPieceOptions& options) {
  Pieces pieces;
  const auto add = [&options](std::vector<Piece>& list, std::string_view bytes, std::size_t id) {
    if (bytes.empty() || is_unreachable(bytes) || code_point_count(bytes) > options.max_word_chars) return;
    list.push_back({.bytes = bytes, .id = static_cast<std::uint32_t>(id)});
  };
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary[id];
    add(pieces.initial, token, id);
    if (token.starts_with(options.continuing_prefix)) {
      add(pieces.continuing, token.substr(options.continuing_prefix.size()), id);
    }
  }
  for (std::vector<Piece>* list : {&pieces.initial, &pieces.continuing}) {
    std::ranges::sort(*list, {}, &Piece::bytes);
  }
  return pieces;
}

WordTable make_word_table(std::span<const Piece> words) {
  std::vector<WordTable::ShortEntry> short_words;
  std::vector<WordTable::LongEntry> long_words;
  for (const Piece& word : words) {
    if (word.bytes.size() > PackedWord::kMaxBytes || word.bytes.find('\0') != std::string_view::npos) continue;
    const PackedWord packed = pack(word.bytes);
    if (packed.high == 0) {
      short_words.push_back({.word = packed.low, .id = word.id});
    } else {
      long_words.push_back({.word = packed, .id = word.id});
    }
  }
  return {short_words, long_words};
}

}  // namespace

struct WordPieceTokenizer::Model {
  Model(const Pieces& pieces, const WordPieceOptions& options, std::span<const AddedToken> added)
      : normalization{
            .clean_text = options.clean_text,
            .handle_chinese_chars = options.handle_chinese_chars,
            .strip_accents = options.strip_accents,
            .lowercase = options.lowercase,
        },
        unk_id(options.unk_id),
        max_word_chars(options.max_word_chars),
        case_bits(options.lowercase ? kCaseBit : 0),
        added_tokens(added),
        words(make_word_table(pieces.initial)),
        matcher(pieces.initial, pieces.continuing) {
    for (unsigned byte = 0; byte < classes.size(); ++byte) classes[byte] = classify(static_cast<unsigned char>(byte));
    for (unsigned byte = 0; byte < single.size(); ++byte) {
      PieceMatcher::Walk walk(matcher, {&single[byte], 1});
      walk.push(static_cast<unsigned char>(byte));
      if (walk.finish() != 1) single[byte] = unk_id;
      any_alphanumeric_start |=
          classes[byte] == ByteClass::kAlphanumeric && added_tokens.may_start_with(static_cast<unsigned char>(byte));
    }
  }

  [[nodiscard]] ByteClass classify(unsigned char byte) const noexcept {
    using unicode::CodePointFacts;
    if (byte >= 0x80) return ByteClass::kJoin;
    const CodePointFacts& facts = unicode::facts(byte);
    if ((non_alphanumeric(byte) & 0x80U) == 0) return ByteClass::kAlphanumeric;
    if (normalization.clean_text && facts.has(CodePointFacts::kDropped)) return ByteClass::kJoin;
    const bool space = facts.has(CodePointFacts::kWhitespace);
    if (!space && !facts.has(CodePointFacts::kPunctuation)) return ByteClass::kJoin;
    if (added_tokens.may_start_with(byte)) return ByteClass::kStop;
    return space ? ByteClass::kSpace : ByteClass::kPunctuation;
  }

  BertNormalizerOptions normalization;
  std::uint32_t unk_id;
  std::size_t max_word_chars;
  std::uint64_t case_bits;
  std::array<ByteClass, 256> classes{};
  std::array<std::uint32_t, 128> single{};  // ids of ASCII characters that are words of their own
  bool any_alphanumeric_start = false;      // an added token begins with a letter or digit: no word is easy
  std::size_t vocabulary_size = 0;
  AddedTokenMatcher added_tokens;
  WordTable words;
  PieceMatcher matcher;

  class Encoder;
};

/// The state of one call of encode().
class WordPieceTokenizer::Model::Encoder {
 public:
  Encoder(const Model& model, std::string_view utf8, std::span<std::uint32_t> ids) noexcept
      : model_(model), begin_(utf8.data()), p_(begin_), end_(begin_ + utf8.size()), ids_(ids) {}

  void run() {
    while (p_ != end_ && !full()) {
      if (model_.any_alphanumeric_start) {
        read_general();
      } else {
        read_easy();
      }
    }
  }

  [[nodiscard]] std::size_t token_count() const noexcept { return count_; }
  [[nodiscard]] std::size_t consumed_bytes() const noexcept { return static_cast<std::size_t>(p_ - begin_); }
  [[nodiscard]] bool is_cut() const noexcept { return is_cut_; }

 private:
  [[nodiscard]] bool full() const noexcept { return count_ == ids_.size(); }
  [[nodiscard]] std::string_view rest(const char* p) const noexcept { return {p, static_cast<std::size_t>(end_ - p)}; }
  [[nodiscard]] std::span<std::uint32_t> room() const noexcept { return ids_.subspan(count_); }
  [[nodiscard]] ByteClass class_at(const char* p) const noexcept {
    return model_.classes[static_cast<unsigned char>(*p)];
  }
  [[nodiscard]] bool joins(const char* p) const noexcept { return p != end_ && class_at(p) == ByteClass::kJoin; }

  void write(std::uint32_t id) noexcept {
    if (full()) {
      is_cut_ = true;
    } else {
      ids_[count_++] = id;
    }
  }

  /// Appends the ids that a walk through the trie has written.
  void close(std::size_t pieces) noexcept {
    if (pieces == 0) {
      write(model_.unk_id);
    } else {
      const std::size_t left = ids_.size() - count_;
      is_cut_ = is_cut_ || pieces > left;
      count_ += std::min(pieces, left);
    }
  }

  void read_easy();
  void read_long_word(std::uint64_t low);
  void take_word(std::uint32_t id, const char* next);
  void read_pieces(const char* next);
  void read_general();

  class WordSink;

  const Model& model_;
  const char* begin_;
  const char* p_;
  const char* end_;
  std::span<std::uint32_t> ids_;
  std::size_t count_ = 0;
  bool is_cut_ = false;
};

/// Splits the normalizer's words into pieces while they grow.
class WordPieceTokenizer::Model::Encoder::WordSink {
 public:
  explicit WordSink(Encoder& encoder) noexcept : encoder_(encoder), walk_(new_walk()) {}

  void text(char32_t c) noexcept {
    if (chars_ < encoder_.model_.max_word_chars) {
      encode_utf8(c, [this](unsigned char byte) { walk_.push(byte); });
    }
    ++chars_;
  }

  void boundary() noexcept {
    if (chars_ == 0) return;
    encoder_.close(chars_ > encoder_.model_.max_word_chars ? 0 : walk_.finish());
    walk_ = new_walk();
    chars_ = 0;
  }

  void punctuation(char32_t c) noexcept {
    boundary();
    text(c);
    boundary();
  }

  [[nodiscard]] bool in_word() const noexcept { return chars_ != 0; }

 private:
  [[nodiscard]] PieceMatcher::Walk new_walk() const noexcept { return {encoder_.model_.matcher, encoder_.room()}; }

  Encoder& encoder_;
  PieceMatcher::Walk walk_;
  std::size_t chars_ = 0;
};

/// Reads words of ASCII letters and digits, ASCII punctuation and spaces; leaves anything else to read_general().
void WordPieceTokenizer::Model::Encoder::read_easy() {
  while (p_ != end_ && !full()) {
    const std::uint64_t bytes = load(rest(p_));
    const std::uint64_t stops = non_alphanumeric(bytes);
    if (stops == 0) {
      read_long_word(bytes);
      continue;
    }
    const std::size_t length = bytes_before(stops);
    if (length == 0) {
      switch (class_at(p_)) {
        case ByteClass::kSpace:
          ++p_;
          break;
        case ByteClass::kPunctuation:
          ids_[count_++] = model_.single[static_cast<unsigned char>(*p_++)];
          break;
        default:
          read_general();
          break;
      }
      continue;
    }
    const char* const next = p_ + length;
    if (joins(next)) {
      read_general();
    } else {
      take_word(model_.words.find(first_bytes(bytes | model_.case_bits, length)), next);
    }
  }
}

/// Reads a word whose first eight bytes, which are given, are letters or digits.
void WordPieceTokenizer::Model::Encoder::read_long_word(std::uint64_t low) {
  const char* next = p_ + kWordBytes;
  const std::uint64_t bytes = load(rest(next));
  const std::uint64_t stops = non_alphanumeric(bytes);
  std::size_t length = kWordBytes;
  if (stops != 0) {
    length = bytes_before(stops);
    next += length;
  } else {
    while (next != end_ && class_at(next) == ByteClass::kAlphanumeric) ++next;
  }
  if (joins(next)) {
    read_general();
  } else if (stops == 0) {
    read_pieces(next);
  } else if (length == 0) {
    take_word(model_.words.find(low | model_.case_bits), next);
  } else {
    const std::uint64_t high = first_bytes(bytes | model_.case_bits, length);
    take_word(model_.words.find(PackedWord{.low = low | model_.case_bits, .high = high}), next);
  }
}

/// Writes the ids of the easy word up to `next`, given the id of the word as a whole.
void WordPieceTokenizer::Model::Encoder::take_word(std::uint32_t id, const char* next) {
  if (id == WordTable::kMissing) {
    read_pieces(next);
    return;
  }
  ids_[count_++] = id;
  p_ = next;
}

/// Splits the easy word up to `next`, which is no token as a whole.
void WordPieceTokenizer::Model::Encoder::read_pieces(const char* next) {
  const std::string_view word(p_, static_cast<std::size_t>(next - p_));
  p_ = next;
  if (word.size() > model_.max_word_chars) {
    write(model_.unk_id);
    return;
  }
  PieceMatcher::Walk walk(model_.matcher, room());
  const auto case_bit = static_cast<unsigned char>(model_.case_bits);
  for (const char c : word) walk.push(static_cast<unsigned char>(c) | case_bit);
  close(walk.finish());
}

/// Reads any text, code point by code point, until a word ends before an ASCII byte.
void WordPieceTokenizer::Model::Encoder::read_general() {
  BertNormalizer normalizer(model_.normalization);
  WordSink sink(*this);
  while (p_ != end_ && !full()) {
    if (model_.added_tokens.may_start_with(static_cast<unsigned char>(*p_))) {
      const AddedToken* token = model_.added_tokens.match(rest(p_));
      if (token != nullptr) {
        normalizer.finish(sink);
        if (full()) return;
        write(token->id);
        p_ += token->content.size();
        return;
      }
    }
    normalizer.push(decode_utf8(p_, end_), sink);
    if (p_ != end_ && is_ascii(*p_) && !sink.in_word() && !normalizer.holds_marks()) return;
  }
  normalizer.finish(sink);
}

WordPieceTokenizer::WordPieceTokenizer(std::span<const std::string> vocabulary, const WordPieceOptions& options,
                                       std::span<const AddedToken> added_tokens) {
  constexpr std::size_t kMaxIds = std::size_t{1} << 31U;
  const auto fail = [](const std::string& message) { throw Error(ErrorCode::kInvalidArgument, message); };
  if (vocabulary.size() > kMaxIds) {
    fail("the vocabulary has " + std::to_string(vocabulary.size()) + " tokens: expected at most 2^31.");
  }
  if (options.unk_id >= vocabulary.size()) {
    fail("unk_id is " + std::to_string(options.unk_id) + ", but the vocabulary has " +
         std::to_string(vocabulary.size()) + " tokens: give the id of the unknown token.");
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& token : vocabulary) {
    if (!token.empty() && !seen.insert(token).second) {
      fail("the vocabulary has the token '" + shown(token) + "' twice: give every token one id.");
    }
  }
  std::size_t vocabulary_size = vocabulary.size();
  seen.clear();
  for (const AddedToken& token : added_tokens) {
    if (token.content.empty()) fail("an added token is empty: expected at least one character.");
    if (!seen.insert(token.content).second) {
      fail("the added token '" + shown(token.content) + "' is given twice: give every token one id.");
    }
    vocabulary_size = std::max(vocabulary_size, std::size_t{token.id} + 1);
  }
  auto model = std::make_unique<Model>(sort_pieces(vocabulary, options), options, added_tokens);
  model->vocabulary_size = vocabulary_size;
  model_ = std::move(model);
}

WordPieceTokenizer::~WordPieceTokenizer() = default;
WordPieceTokenizer::WordPieceTokenizer(WordPieceTokenizer&&) noexcept = default;
WordPieceTokenizer& WordPieceTokenizer::operator=(WordPieceTokenizer&&) noexcept = default;

EncodeResult WordPieceTokenizer::encode(std::string_view utf8, std::span<std::uint32_t> ids) const {
  Model::Encoder encoder(*model_, utf8, ids);
  encoder.run();
  return {.token_count = encoder.token_count(), .consumed_bytes = encoder.consumed_bytes(), .is_cut = encoder.is_cut()};
}

std::size_t WordPieceTokenizer::vocabulary_size() const noexcept { return model_->vocabulary_size; }

}  // namespace routellm_fast
