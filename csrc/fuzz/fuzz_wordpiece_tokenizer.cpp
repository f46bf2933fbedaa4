// Any bytes are a text: the first byte chooses the options, the rest is encoded. Aborts where an invariant breaks.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/require.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace {

using routellm_fast::AddedToken;
using routellm_fast::EncodeResult;
using routellm_fast::WordPieceOptions;
using routellm_fast::WordPieceTokenizer;
using routellm_fast::fuzz::require;

constexpr unsigned kOptionSets = 64;

WordPieceTokenizer make_tokenizer(unsigned bits) {
  const std::vector<std::string> vocabulary{"[PAD]",    "[UNK]",  "a",        "b",      "ab",
                                            "##a",      "##b",    "##bab",    "abab",   "##ababab",
                                            "0",        "##0",    "##00",     "the",    "internationals",
                                            "eightlet", "!",      "[",        "]",      "中",
                                            "##中",     "é",      "e",        "##e",    "##\u0301",
                                            "##\u302E", "\u1100", "##\u1161", "\uFFFD", "##\uFFFD",
                                            "",         "##",     "ß"};
  const WordPieceOptions options{.clean_text = (bits & 1U) != 0,
                                 .handle_chinese_chars = (bits & 2U) != 0,
                                 .strip_accents = (bits & 4U) != 0,
                                 .lowercase = (bits & 8U) != 0,
                                 .unk_id = 1,
                                 .max_word_chars = (bits & 16U) != 0 ? 100U : 5U,
                                 .continuing_prefix = "##"};
  std::vector<AddedToken> added{{"[PAD]", 0}, {"[UNK]", 1}, {"[UNK]!", 40}};
  if ((bits & 32U) != 0) added.insert(added.end(), {{"bb", 41}, {"é", 42}, {" a", 43}, {"\x01", 44}});
  return {vocabulary, options, added};
}

const WordPieceTokenizer& tokenizer_for(unsigned bits) {
  static const std::vector<WordPieceTokenizer> tokenizers = [] {
    std::vector<WordPieceTokenizer> all;
    all.reserve(kOptionSets);
    for (unsigned k = 0; k < kOptionSets; ++k) all.push_back(make_tokenizer(k));
    return all;
  }();
  return tokenizers[bits % kOptionSets];
}

struct Encoded {
  std::vector<std::uint32_t> ids;
  std::size_t consumed_bytes;
};

Encoded encode(const WordPieceTokenizer& tokenizer, std::string_view text, std::size_t cap) {
  constexpr std::uint32_t kUntouched = 0xFFFFFFFF;
  std::vector<std::uint32_t> ids(cap + 1, kUntouched);
  const EncodeResult result = tokenizer.encode(text, std::span(ids).first(cap));
  require(result.token_count <= cap, "no more ids are written than there is room for");
  require(result.consumed_bytes <= text.size(), "no more is read than there is");
  require(result.token_count == cap || result.consumed_bytes == text.size(), "only a full room ends a text");
  require(ids[cap] == kUntouched, "nothing is written behind the room");
  ids.resize(result.token_count);
  require(std::ranges::all_of(ids, [&](std::uint32_t id) { return id < tokenizer.vocabulary_size(); }),
          "an id is one of the vocabulary");
  return {std::move(ids), result.consumed_bytes};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const WordPieceTokenizer& tokenizer = tokenizer_for(data[0]);
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data + 1, data + size);
  const std::string_view text(bytes.data(), bytes.size());

  const Encoded all = encode(tokenizer, text, text.size() + 1);  // at most one token a byte
  require(all.consumed_bytes == text.size(), "a text is read to its end");
  require(encode(tokenizer, text, text.size() + 1).ids == all.ids, "a text has the same ids again");

  for (const std::size_t cap : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, text.size() / 2}) {
    const Encoded some = encode(tokenizer, text, cap);
    require(some.ids.size() == std::min(cap, all.ids.size()), "a room is filled");
    require(std::equal(some.ids.begin(), some.ids.end(), all.ids.begin()), "a room cuts ids off and changes none");
    // What was read is all that the tokens depend on.
    const Encoded again = encode(tokenizer, text.substr(0, some.consumed_bytes), cap);
    require(again.ids == some.ids, "what was read has the ids that were found");
  }
  return 0;
}
