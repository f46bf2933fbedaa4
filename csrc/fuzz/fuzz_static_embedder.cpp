// Any bytes are a text, and the first ones the options of an embedder: features, limits, both ends, tables of every
// form. An embedding is finite, and the same whether the whole text is at hand or only what is read of it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "embed/static_embedder.hpp"
#include "score/linear_scorer.hpp"
#include "support/require.hpp"
#include "support/script.hpp"
#include "text/utf8_text.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::Excerpt;
using routellm_fast::StaticEmbedder;
using routellm_fast::StaticEmbedderOptions;
using routellm_fast::SurfaceFeature;
using routellm_fast::TokenTable;
using routellm_fast::WordPieceTokenizer;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

constexpr std::size_t kDim = 5;
constexpr unsigned kFeatureCount = 10;

std::shared_ptr<const WordPieceTokenizer> tokenizer() {
  static const auto shared = [] {
    const std::vector<std::string> vocabulary{"[UNK]", "a", "b", "##a", "##b",    "ab",
                                              "the",   "?", "1", "##1", "\u00e9", "\u4e2d"};
    return std::make_shared<const WordPieceTokenizer>(vocabulary, routellm_fast::WordPieceOptions{},
                                                      std::vector<routellm_fast::AddedToken>{});
  }();
  return shared;
}

enum class Form : std::uint8_t { kInt8, kFloat32, kMapped, kWeighted };

TokenTable table_of(Form form) {
  TokenTable table;
  table.dim = kDim;
  const std::size_t tokens = tokenizer()->vocabulary_size();
  for (std::size_t i = 0; i < tokens * kDim; ++i) {
    const auto value = static_cast<int>(i * 37 % 255) - 127;
    if (form == Form::kInt8) {
      table.int8.push_back(static_cast<std::int8_t>(value));
    } else {
      table.float32.push_back(static_cast<float>(value) * (i % 7 == 0 ? 1e30F : 0.01F));
    }
  }
  if (form == Form::kInt8) table.column_scale.assign(kDim, 0.01F);
  for (std::size_t t = 0; t < tokens && form >= Form::kMapped; ++t)
    table.rows.push_back(static_cast<std::uint32_t>(t * 5 % tokens));
  if (form == Form::kWeighted) table.weights.assign(tokens, 0.5F);
  return table;
}

StaticEmbedderOptions read_options(Script& script) {
  StaticEmbedderOptions options;
  options.max_tokens = script.byte() % 24U;
  options.max_code_points = script.byte();
  options.tail_tokens = script.byte() % 16U;
  const std::uint8_t bits = script.byte();
  options.normalize = bits % 2U == 1;
  if (bits / 2U % 2U == 1) options.dropped_token = bits / 4U % 16U;
  const std::size_t count = script.byte() % 13U;
  for (std::size_t k = 0; k < count; ++k) {
    options.surface_features.push_back(static_cast<SurfaceFeature>(script.byte() % kFeatureCount));
  }
  return options;
}

std::vector<float> embed(const StaticEmbedder& embedder, const Excerpt& text, bool& is_whole) {
  constexpr float kUntouched = 12345.0F;
  std::vector<float> values(embedder.dim() + 1, kUntouched);
  is_whole = embedder.embed(text, values.data());
  require(values.back() == kUntouched, "an embedding has as many values as it says");
  values.pop_back();
  return values;
}

void check(const StaticEmbedder& embedder, const std::string& text) {
  std::string scratch;
  const std::string valid(routellm_fast::valid_utf8(text, text.size(), scratch).text);
  bool is_whole = false;
  const std::vector<float> values = embed(embedder, Excerpt::of(valid), is_whole);
  for (const float value : values) require(std::isfinite(value), "an embedding is finite");
  bool again_is_whole = false;
  require(embed(embedder, routellm_fast::read_of(text, embedder.limits(), scratch), again_is_whole) == values,
          "what is read of a text has the embedding of the text");
  require(is_whole == again_is_whole, "it is known whether a text was read whole");

  const StaticEmbedder::Tokens tokens = embedder.find(Excerpt::of(valid));
  require(tokens.ids.size() <= embedder.options().max_tokens, "no more tokens are read than the limit");
  require(tokens.count >= tokens.ids.size(), "a text has the tokens that were found");
  const std::vector<std::uint32_t> ids(tokens.ids.begin(), tokens.ids.end());
  std::vector<float> by_ids(embedder.dim());
  embedder.embed_ids({.ids = ids, .token_count = tokens.count}, tokens.read, by_ids.data());
  require(by_ids == values, "a text and its tokens have one embedding");

  const std::vector<float> weights(embedder.dim(), 0.125F);
  const routellm_fast::TextScorer scorer(std::make_shared<const StaticEmbedder>(embedder), weights);
  const float win_rate = scorer.win_rate(Excerpt::of(valid));
  require(win_rate >= 0.0F && win_rate <= 1.0F, "a win rate lies in [0, 1]");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const auto form = static_cast<Form>(script.byte() % 4U);
  const StaticEmbedderOptions options = read_options(script);
  std::optional<StaticEmbedder> embedder;
  try {
    embedder.emplace(tokenizer(), table_of(form), options, routellm_fast::kernels(routellm_fast::active_isa()));
  } catch (const Error&) {
    const bool fits = options.max_tokens > 0 && options.max_code_points > 0 &&
                      (options.tail_tokens == 0 || options.tail_tokens < options.max_tokens);
    require(!fits, "options that fit are taken");
    return 0;
  }
  check(*embedder, script.rest());
  return 0;
}
