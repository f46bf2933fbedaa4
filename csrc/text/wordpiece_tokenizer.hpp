#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace routellm_fast {

/// BERT's text normalization and the WordPiece model, under the names of a tokenizer.json.
struct WordPieceOptions {
  bool clean_text = true;            // drop control characters and U+FFFD
  bool handle_chinese_chars = true;  // every CJK ideograph is a word
  bool strip_accents = true;         // canonical decomposition without its nonspacing marks
  bool lowercase = true;
  std::uint32_t unk_id = 0;
  std::size_t max_word_chars = 100;  // a word with more code points after normalization becomes unk_id
  std::string continuing_prefix = "##";
};

/// A token that is searched for in the text before normalization. The leftmost match wins, then the longest.
struct AddedToken {
  std::string content;
  std::uint32_t id = 0;
};

struct EncodeResult {
  std::size_t token_count = 0;
  std::size_t consumed_bytes = 0;  // how far the text was read when the cap stopped it, else its size
  bool is_cut = false;             // whether the last word read has tokens that did not fit
};

/// Text to token ids, equal to Hugging Face `tokenizers` with BertNormalizer, BertPreTokenizer and WordPiece, without
/// special tokens around the text. Immutable and thread-safe.
class WordPieceTokenizer {
 public:
  /// `vocabulary[id]` is a token's text; empty texts stand for ids without a token. Throws Error(kInvalidArgument) for
  /// a repeated token, an empty added token or an unk_id outside the vocabulary.
  WordPieceTokenizer(std::span<const std::string> vocabulary, const WordPieceOptions& options,
                     std::span<const AddedToken> added_tokens);
  ~WordPieceTokenizer();
  WordPieceTokenizer(WordPieceTokenizer&&) noexcept;
  WordPieceTokenizer& operator=(WordPieceTokenizer&&) noexcept;
  WordPieceTokenizer(const WordPieceTokenizer&) = delete;
  WordPieceTokenizer& operator=(const WordPieceTokenizer&) = delete;

  /// Writes at most ids.size() ids and stops reading at the end of the word that fills them. A text has at most as many
  /// tokens as bytes. Linear in the bytes read, whatever they are. Every maximal subpart of an ill-formed UTF-8
  /// sequence reads as U+FFFD. Allocates only where combining marks have to be put in canonical order.
  [[nodiscard]] EncodeResult encode(std::string_view utf8, std::span<std::uint32_t> ids) const;

  /// One more than the largest id that encode() can write.
  [[nodiscard]] std::size_t vocabulary_size() const noexcept;

 private:
  struct Model;
  std::unique_ptr<const Model> model_;
};

}  // namespace routellm_fast
