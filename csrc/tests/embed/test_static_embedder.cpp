#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "embed/static_embedder.hpp"
#include "score/linear_scorer.hpp"

namespace routellm_fast {
namespace {

const std::vector<std::string> kVocabulary{"[PAD]", "[UNK]", "a", "b", "##b", "c", "?"};
constexpr std::uint32_t kUnknown = 1;

std::shared_ptr<const WordPieceTokenizer> tokenizer() {
  WordPieceOptions options{};
  options.unk_id = kUnknown;
  return std::make_shared<WordPieceTokenizer>(kVocabulary, options, std::vector<AddedToken>{});
}

StaticEmbedder embedder(bool normalize, bool int8, std::vector<SurfaceFeature> features, std::size_t max_tokens = 8,
                        std::size_t tail_tokens = 0) {
  TokenTable table;
  table.dim = 3;
  for (std::size_t i = 0; i < kVocabulary.size() * 3; ++i) {
    const auto value = static_cast<std::int8_t>(static_cast<int>(i * 7 % 19) - 9);
    if (int8) {
      table.int8.push_back(value);
    } else {
      table.float32.push_back(static_cast<float>(value) * 0.25F);
    }
  }
  if (int8) table.column_scale = {0.25F, 0.25F, 0.25F};
  return {tokenizer(), std::move(table),
          StaticEmbedderOptions{max_tokens, 64 * max_tokens, tail_tokens, normalize, kUnknown, std::move(features)},
          kernels(active_isa())};
}

std::vector<float> embed(const StaticEmbedder& e, std::string_view text) {
  std::vector<float> out(e.dim());
  e.embed(Excerpt::of(text), out.data());
  return out;
}

TEST_CASE("the mean of the token vectors, unknown tokens left out") {
  for (const bool int8 : {false, true}) {
    const StaticEmbedder e = embedder(false, int8, {});
    std::vector<float> expected(3);
    for (std::size_t d = 0; d < 3; ++d) {
      for (const std::size_t id : {2U, 3U, 4U}) {
        expected[d] += static_cast<float>(static_cast<int>((id * 3 + d) * 7 % 19) - 9) * 0.25F / 3.0F;
      }
    }
    const std::vector<float> out = embed(e, "a bb zzz");
    for (std::size_t d = 0; d < 3; ++d) CHECK(out[d] == doctest::Approx(expected[d]));
  }
}

TEST_CASE("a normalised embedding has unit length; no tokens give zeros before the features") {
  const StaticEmbedder e = embedder(true, true, {SurfaceFeature::kConstant, SurfaceFeature::kLogTokens});
  const std::vector<float> out = embed(e, "a b c");
  CHECK(out[0] * out[0] + out[1] * out[1] + out[2] * out[2] == doctest::Approx(1.0F));
  CHECK(out[4] == std::log1p(3.0F));
  CHECK(embed(e, "") == std::vector<float>{0.0F, 0.0F, 0.0F, 1.0F, 0.0F});
  CHECK(embed(e, " \t\n") == std::vector<float>{0.0F, 0.0F, 0.0F, 1.0F, 0.0F});
}

TEST_CASE("reading stops at the cap on tokens, and at the cap on characters") {
  const StaticEmbedder e = embedder(false, false, {SurfaceFeature::kLogTokens, SurfaceFeature::kQuestionMarks}, 4);
  CHECK(embed(e, "a b c a ? ? ?") == embed(e, "a b c a"));
  const std::string spaces(4 * 64, ' ');
  CHECK(embed(e, spaces + "a") == embed(e, ""));
  CHECK(embed(e, spaces.substr(1) + "a") == embed(e, "a"));
}

TEST_CASE("of a text with too many tokens both ends are read, and its length is estimated") {
  const StaticEmbedder start = embedder(false, false, {SurfaceFeature::kLogTokens}, 4);
  const StaticEmbedder ends = embedder(false, false, {SurfaceFeature::kLogTokens}, 4, 2);
  const auto vector_of = [](std::vector<float> out) { return std::vector<float>(out.begin(), out.begin() + 3); };
  for (const char* text : {"", "a", "a b", "a b c ?", "  a b c ?  "}) CHECK(embed(ends, text) == embed(start, text));
  // Two of the start and two of the end: a b + c ?.
  CHECK(vector_of(embed(ends, "a b a a a a a a c ?")) == vector_of(embed(start, "a b c ?")));
  CHECK(vector_of(embed(ends, "a b b b b b c ?")) == vector_of(embed(start, "a b c ?")));
  CHECK(vector_of(embed(start, "a b b b b b c ?")) != vector_of(embed(start, "a b c ?")));
  // All of it was looked at: the estimate is the count.
  CHECK(embed(ends, "a b b b b b c ?").back() == doctest::Approx(std::log1p(8.0F)));
  // 256 code points are read at most, half of them of each end: a thousand words of two characters.
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "a ";
  CHECK(embed(ends, text).back() == doctest::Approx(std::log1p(1000.0F)).epsilon(0.01));
  CHECK(embed(start, text).back() == std::log1p(4.0F));
  CHECK(vector_of(embed(ends, text + "b c")) == vector_of(embed(start, "a a b c")));
  // A word that the window cuts is not read in part: of "##b" there is none.
  CHECK(vector_of(embed(ends, "a a " + std::string(400, 'b') + " c ?")) == vector_of(embed(start, "a a c ?")));
}

TEST_CASE("of two ends it does not matter where they lie in memory") {
  const StaticEmbedder e = embedder(false, false, {SurfaceFeature::kLogTokens}, 4, 2);
  const std::string head(128, 'a');
  const std::string tail = std::string(60, 'b') + " " + std::string(65, 'c') + " ?";
  const auto vector_of = [&e](const Excerpt& text) {
    std::vector<float> out(e.dim());
    e.embed(text, out.data());
    return out;
  };
  const std::string side_by_side = head + tail;
  const std::string_view both(side_by_side);
  CHECK(vector_of({both.substr(0, 128), both.substr(128), 1000}) == vector_of({head, tail, 1000}));
  CHECK(vector_of({head, tail, 1000}) == vector_of(Excerpt::of(head + std::string(744, 'x') + tail)));
}

TEST_CASE("a text is whole unless a token of it was left out") {
  for (const std::size_t tail : {std::size_t{0}, std::size_t{1}}) {
    const StaticEmbedder e = embedder(false, false, {}, 4, tail);
    const auto is_whole = [&e](std::string_view text) { return e.tokenize(Excerpt::of(text)).is_whole; };
    for (const char* text : {"", "a", "a b c ?", "a b c ?  \n ", " a ab c"}) CHECK(is_whole(text));
    for (const char* text : {"a b c ? a", "a b c ab", "a b c bb c", "a b c ?  \n c"}) CHECK_FALSE(is_whole(text));
    CHECK(is_whole(std::string(256, ' ')));
    CHECK_FALSE(is_whole(std::string(256, ' ') + "a"));
    CHECK_FALSE(e.tokenize({"a", {}, 2}).is_whole);
  }
}

TEST_CASE("folded and unfolded scores agree") {
  const std::vector<SurfaceFeature> features{SurfaceFeature::kConstant, SurfaceFeature::kLogTokens,
                                             SurfaceFeature::kQuestionMarks};
  const std::vector<float> weights{0.3F, -0.7F, 0.2F, 0.1F, 0.4F, -0.2F};
  for (const bool int8 : {false, true}) {
    for (const bool normalize : {false, true}) {
      const auto e = std::make_shared<const StaticEmbedder>(embedder(normalize, int8, features));
      const TextScorer text_scorer(e, weights);
      CHECK(text_scorer.is_folded() == !normalize);
      const LinearScorer scorer(weights, kernels(active_isa()));
      for (const char* text : {"", "a", "a b bb c?", "zzz", "a a a a a a a a a a a ?"}) {
        const float expected = scorer.win_rate(embed(*e, text).data());
        CHECK(text_scorer.win_rate(Excerpt::of(text)) == doctest::Approx(expected).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("weights whose token scores overflow float32 still give finite win rates") {
  const auto e = std::make_shared<const StaticEmbedder>(embedder(false, false, {}));
  const TextScorer scorer(e, std::vector<float>{3e38F, 3e38F, -3e38F});
  CHECK_FALSE(scorer.is_folded());
  for (const char* text : {"", "a", "a b c ?"}) {
    const float win_rate = scorer.win_rate(Excerpt::of(text));
    CHECK(win_rate >= 0.0F);
    CHECK(win_rate <= 1.0F);
  }
}

TEST_CASE("threads share one embedder and get the same vectors") {
  const StaticEmbedder e = embedder(true, true, {SurfaceFeature::kLogTokens});
  const std::vector<float> expected = embed(e, "a bb c ?");
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  threads.reserve(found.size());
  for (std::vector<float>& slot : found) {
    threads.emplace_back([&e, &slot] {
      for (int i = 0; i < 500; ++i) slot = embed(e, i % 2 == 0 ? "c c ? a b" : "a bb c ?");
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& slot : found) CHECK(slot == expected);
}

TEST_CASE("parts that do not fit are refused") {
  TokenTable table;
  table.dim = 3;
  table.int8.assign(6, 1);
  table.column_scale = {1.0F};
  CHECK_THROWS_WITH_AS(StaticEmbedder(nullptr, table, {}, kernels(active_isa())), doctest::Contains("3 columns needs"),
                       Error);
  table.column_scale = {1.0F, 1.0F, 1.0F};
  CHECK_THROWS_WITH_AS(StaticEmbedder(tokenizer(), table, {}, kernels(active_isa())),
                       doctest::Contains("different models"), Error);
  const StaticEmbedder e(nullptr, table, {}, kernels(active_isa()));
  std::vector<float> out(3);
  const std::vector<std::uint32_t> ids{2};
  CHECK_THROWS_WITH_AS(e.embed_ids({ids, 1}, Excerpt::of(""), out.data()), doctest::Contains("outside the table"),
                       Error);
  const std::vector<std::uint32_t> many(513, 1);
  CHECK_THROWS_WITH_AS(e.embed_ids({many, 513}, Excerpt::of(""), out.data()), doctest::Contains("at most max_tokens"),
                       Error);
  for (const StaticEmbedderOptions& options :
       {StaticEmbedderOptions{.max_tokens = 4, .tail_tokens = 4},
        StaticEmbedderOptions{.max_tokens = 4, .tail_tokens = 5},
        StaticEmbedderOptions{.max_code_points = std::size_t{1} << 40U, .tail_tokens = 2}}) {
    CHECK_THROWS_WITH_AS(StaticEmbedder(nullptr, table, options, kernels(active_isa())),
                         doctest::Contains("tail_tokens must be below"), Error);
  }
}

}  // namespace
}  // namespace routellm_fast
