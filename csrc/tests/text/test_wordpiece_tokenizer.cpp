#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {
namespace {

using Tokens = std::vector<std::string>;

const Tokens kVocabulary{"[PAD]",
                         "[UNK]",
                         "un",
                         "##aff",
                         "##able",
                         "##a",
                         "##f",
                         "##ff",
                         "the",
                         "quick",
                         "internationals",
                         "!",
                         "[",
                         "]",
                         "a",
                         "b",
                         "##b",
                         "ab",
                         "中",
                         "文",
                         "cafe",
                         "strasse",
                         "ß",
                         "##ß",
                         "\u1100",
                         "##\u1161",
                         "##\u11A8",
                         ";",
                         "=",
                         "K",
                         "k",
                         "İ",
                         "i",
                         "##\u0307",
                         "é",
                         "e",
                         "\u0301",
                         "##\u0301",
                         "eightlet",
                         "abcdefghijklmnop",
                         "0",
                         "##0",
                         "pad",
                         "unk",
                         "豈",
                         "\U00020122",
                         "x",
                         "##x",
                         "##\u302E",
                         "##\uFFFD",
                         "\uFFFD"};

WordPieceOptions default_options() {
  WordPieceOptions options;
  options.unk_id = 1;
  return options;
}

WordPieceTokenizer make_tokenizer(const WordPieceOptions& options = default_options(),
                                  const std::vector<AddedToken>& added = {}) {
  return {kVocabulary, options, added};
}

Tokens tokens_of(const WordPieceTokenizer& tokenizer, std::string_view text) {
  std::vector<std::uint32_t> ids(text.size() + 1);
  ids.resize(tokenizer.encode(text, ids).token_count);
  Tokens tokens;
  for (const std::uint32_t id : ids) tokens.push_back(kVocabulary.at(id));
  return tokens;
}

Tokens tokens_of(std::string_view text) { return tokens_of(make_tokenizer(), text); }

}  // namespace

TEST_CASE("words that are tokens keep one id, whatever their length and case") {
  CHECK(tokens_of("the QUICK a") == Tokens{"the", "quick", "a"});
  CHECK(tokens_of("Eightlet") == Tokens{"eightlet"});
  CHECK(tokens_of("Internationals") == Tokens{"internationals"});
  CHECK(tokens_of("ABCDEFGHIJKLMNOP") == Tokens{"abcdefghijklmnop"});
  CHECK(tokens_of("") == Tokens{});
  CHECK(tokens_of(" \t\r\n ") == Tokens{});
}

TEST_CASE("other words split into the longest known pieces") {
  CHECK(tokens_of("unaffable") == Tokens{"un", "##aff", "##able"});
  CHECK(tokens_of("unaff") == Tokens{"un", "##aff"});
  CHECK(tokens_of("unaf") == Tokens{"un", "##a", "##f"});
  CHECK(tokens_of("ab0") == Tokens{"ab", "##0"});
  CHECK(tokens_of("abab") == Tokens{"ab", "##a", "##b"});
}

TEST_CASE("greed is not undone: a word whose longest first piece leads nowhere is unknown as a whole") {
  CHECK(tokens_of("quickly the") == Tokens{"[UNK]", "the"});
  CHECK(tokens_of("unaffablex!") == Tokens{"un", "##aff", "##able", "##x", "!"});
  CHECK(tokens_of("unaffablez!") == Tokens{"[UNK]", "!"});
}

TEST_CASE("punctuation is a word of its own, also where no token knows it") {
  CHECK(tokens_of("the!a") == Tokens{"the", "!", "a"});
  CHECK(tokens_of("!?![") == Tokens{"!", "[UNK]", "!", "["});
  CHECK(tokens_of("a\u2019b") == Tokens{"a", "[UNK]", "b"});
  CHECK(tokens_of("##b") == Tokens{"[UNK]", "[UNK]", "b"});
}

TEST_CASE("each step of the normalization does its part and can be switched off") {
  WordPieceOptions options = default_options();
  SUBCASE("clean_text drops controls inside words") {
    CHECK(tokens_of("a\u200Bb a\x01"
                    "b") == Tokens{"ab", "ab"});
    CHECK(tokens_of(std::string_view("a\0b", 3)) == Tokens{"ab"});
    options.clean_text = false;
    CHECK(tokens_of(make_tokenizer(options), std::string_view("a\0b a", 5)) == Tokens{"[UNK]", "a"});
    CHECK(tokens_of(make_tokenizer(options), std::string_view("a\0", 2)) == Tokens{"[UNK]"});
  }
  SUBCASE("handle_chinese_chars makes every ideograph a word, before it decomposes") {
    CHECK(tokens_of("中文a") == Tokens{"中", "文", "a"});
    CHECK(tokens_of("a\U0002F803b") == Tokens{"a", "\U00020122", "b"});
    options.handle_chinese_chars = false;
    CHECK(tokens_of(make_tokenizer(options), "中文 中") == Tokens{"[UNK]", "中"});
  }
  SUBCASE("strip_accents decomposes and drops marks") {
    CHECK(tokens_of("café CAFE\u0301") == Tokens{"cafe", "cafe"});
    CHECK(tokens_of("\uAC01") == Tokens{"\u1100", "##\u1161", "##\u11A8"});
    CHECK(tokens_of("\u037E a\u2260b") == Tokens{";", "a", "=", "b"});
    options.strip_accents = false;
    CHECK(tokens_of(make_tokenizer(options), "é e\u0301") == Tokens{"é", "e", "##\u0301"});
  }
  SUBCASE("lowercase maps each code point on its own") {
    CHECK(tokens_of("\u212A \u1E9E") == Tokens{"k", "ß"});
    options.strip_accents = false;
    CHECK(tokens_of(make_tokenizer(options), "\u0130") == Tokens{"i", "##\u0307"});
    options.lowercase = false;
    CHECK(tokens_of(make_tokenizer(options), "K k İ THE") == Tokens{"K", "k", "İ", "[UNK]"});
  }
}

TEST_CASE("marks that stay are put in canonical order") {
  // U+302E has class 224 and stays; U+1D165 has class 216, decomposes no further and stays too.
  const Tokens vocabulary{"[UNK]", "x", "##\u302E", "##\U0001D165"};
  const WordPieceTokenizer tokenizer(vocabulary, {.unk_id = 0}, {});
  std::vector<std::uint32_t> ids(8);
  const std::vector<std::uint32_t> expected{1, 3, 2};
  for (const std::string_view text : {"x\u302E\U0001D165", "x\U0001D165\u302E", "x\u302E\u0301\u200B\U0001D165"}) {
    ids.resize(8);
    ids.resize(tokenizer.encode(text, ids).token_count);
    CHECK(ids == expected);
  }
}

TEST_CASE("a word of more than max_word_chars normalized characters is unknown") {
  WordPieceOptions options = default_options();
  options.max_word_chars = 3;
  const WordPieceTokenizer tokenizer = make_tokenizer(options);
  CHECK(tokens_of(tokenizer, "abb abbb") == Tokens{"ab", "##b", "[UNK]"});
  CHECK(tokens_of(tokenizer, "quick the") == Tokens{"[UNK]", "the"});
  CHECK(tokens_of(tokenizer, "\u00C4\u0301bb aéééé") == Tokens{"ab", "##b", "[UNK]"});
  CHECK(tokens_of(make_tokenizer(), "a" + std::string(99, 'b')).size() == 99);
  CHECK(tokens_of(make_tokenizer(), "a" + std::string(100, 'b')) == Tokens{"[UNK]"});
}

TEST_CASE("added tokens are found in the text as it stands, the longest first") {
  const std::vector<AddedToken> added{{"[PAD]", 0}, {"[UNK]", 1}, {"[UNK]!", 11}, {"é", 34}};
  const WordPieceTokenizer tokenizer = make_tokenizer(default_options(), added);
  CHECK(tokens_of(tokenizer, "the[PAD]a [UNK]") == Tokens{"the", "[PAD]", "a", "[UNK]"});
  CHECK(tokens_of(tokenizer, "[UNK]![UNK]") == Tokens{"!", "[UNK]"});
  CHECK(tokens_of(tokenizer, "[pad]") == Tokens{"[", "pad", "]"});
  CHECK(tokens_of(tokenizer, "[PAD") == Tokens{"[", "pad"});
  CHECK(tokens_of(tokenizer, "abéab") == Tokens{"ab", "é", "ab"});

  const WordPieceTokenizer inside_words = make_tokenizer(default_options(), {{"bb", 0}, {" a", 2}});
  CHECK(tokens_of(inside_words, "abba a") == Tokens{"a", "[PAD]", "a", "un"});
}

TEST_CASE("the cap stops the reading at a word's end") {
  const WordPieceTokenizer tokenizer = make_tokenizer();
  const std::string_view text = "unaffable the quick";
  const Tokens all = tokens_of(tokenizer, text);
  for (std::size_t cap = 0; cap <= all.size() + 1; ++cap) {
    std::vector<std::uint32_t> ids(cap + 1, 0xFFFFFFFF);
    const EncodeResult result = tokenizer.encode(text, std::span(ids).first(cap));
    CHECK(result.token_count == std::min(cap, all.size()));
    CHECK(result.consumed_bytes == (cap == 0 ? 0 : cap <= 3 ? 9 : cap == 4 ? 13 : text.size()));
    for (std::size_t i = 0; i < result.token_count; ++i) CHECK(kVocabulary[ids[i]] == all[i]);
    CHECK(ids[cap] == 0xFFFFFFFF);
  }
}

TEST_CASE("ill-formed UTF-8 reads as U+FFFD, once a maximal subpart") {
  WordPieceOptions options = default_options();
  options.clean_text = false;
  const WordPieceTokenizer tokenizer = make_tokenizer(options);
  const auto replaced = [&tokenizer](std::string_view text) {
    const Tokens tokens = tokens_of(tokenizer, text);
    CHECK(std::ranges::all_of(tokens, [](const std::string& t) { return t.ends_with("\uFFFD"); }));
    return tokens.size();
  };
  CHECK(replaced("\x80") == 1);
  CHECK(replaced("\xFF\xFE") == 2);
  CHECK(replaced("\xC0\xAF") == 2);          // overlong
  CHECK(replaced("\xE0\x80\x80") == 3);      // overlong
  CHECK(replaced("\xED\xA0\x80") == 3);      // a surrogate
  CHECK(replaced("\xF4\x90\x80\x80") == 4);  // past U+10FFFF
  CHECK(replaced("\xF0\x80\x80\x80") == 4);  // overlong
  CHECK(replaced("\xE4\xB8") == 1);          // truncated
  CHECK(replaced("\xF0\x9F\x98") == 1);      // truncated
  CHECK(replaced("\xF0\x9F\xF0\x9F") == 2);
  CHECK(replaced("\xC3") == 1);
  CHECK(tokens_of(tokenizer, "\xE4\xB8!") == Tokens{"\uFFFD", "!"});
  CHECK(tokens_of("a\xE4\xB8"
                  "b") == Tokens{"ab"});
}

TEST_CASE("a text need not be readable past its end") {
  const WordPieceTokenizer tokenizer = make_tokenizer();
  const std::string_view text = "the quick internationals eightlet café 中文!";
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const std::vector<char> copy(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
    const std::string_view exact(copy.data(), copy.size());
    const std::string readable_further(exact);
    CHECK(tokens_of(tokenizer, exact) == tokens_of(tokenizer, readable_further));
  }
}

// Quadratic time would make this case take minutes: the runner's own limit is the check.
TEST_CASE("long runs of one thing are read to their end") {
  const WordPieceTokenizer tokenizer = make_tokenizer();
  constexpr std::size_t kRepeats = 400'000;
  for (const std::string_view unit : {"a", " ", "[", "\x01", "\xFF", "\u0301", "\u302E", "é", "中", "aé"}) {
    std::string text = "x";
    for (std::size_t i = 0; i < kRepeats; ++i) text += unit;
    std::vector<std::uint32_t> ids(text.size() + 1);
    const EncodeResult result = tokenizer.encode(text, ids);
    CHECK(result.consumed_bytes == text.size());
  }
}

TEST_CASE("a vocabulary whose prefix is empty or made of letters") {
  const Tokens vocabulary{"[UNK]", "a", "b", "xa", "xb"};
  std::vector<std::uint32_t> ids(8);
  const auto encode = [&ids](const WordPieceTokenizer& tokenizer, std::string_view text) {
    return std::vector<std::uint32_t>(
        ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokenizer.encode(text, ids).token_count));
  };
  const WordPieceTokenizer empty(vocabulary, {.unk_id = 0, .continuing_prefix = ""}, {});
  CHECK(encode(empty, "abxa ax") == std::vector<std::uint32_t>{1, 2, 3, 0});
  const WordPieceTokenizer letter(vocabulary, {.unk_id = 0, .continuing_prefix = "x"}, {});
  CHECK(encode(letter, "ab xab") == std::vector<std::uint32_t>{1, 4, 3, 4});
}

TEST_CASE("faulty vocabularies are refused") {
  const auto code_of = [](const Tokens& vocabulary, std::uint32_t unk_id, const std::vector<AddedToken>& added) {
    try {
      WordPieceTokenizer(vocabulary, {.unk_id = unk_id}, added);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  CHECK(code_of({}, 0, {}));
  CHECK(code_of({"a"}, 1, {}));
  CHECK(code_of({"[UNK]", "a", "a"}, 0, {}));
  CHECK(code_of({"[UNK]"}, 0, {{"", 0}}));
  CHECK(code_of({"[UNK]"}, 0, {{"b", 0}, {"b", 0}}));
  CHECK_FALSE(code_of({"[UNK]", "", ""}, 0, {{"b", 7}}));
  CHECK(WordPieceTokenizer(Tokens{"[UNK]", "", ""}, {.unk_id = 0}, {}).vocabulary_size() == 3);
  CHECK(WordPieceTokenizer(Tokens{"[UNK]"}, {.unk_id = 0}, std::vector<AddedToken>{{"b", 7}}).vocabulary_size() == 8);
}

}  // namespace routellm_fast
