// Routers of contents that are given from memory, as bindings give them, beside those that are read.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/reader.hpp"
#include "router/router.hpp"
#include "router/similarity_weighted.hpp"
#include "support/scratch_directory.hpp"

namespace routellm_fast {
namespace {

namespace fs = std::filesystem;

DirectoryContents read(const std::string& name) {
  return read_directory(DirectoryHandle(golden(name).string(), "router.json"), router_layout());
}

DirectoryContents in_memory(const std::string& name) {
  DirectoryContents contents = read(name);
  contents.path = "this router";
  contents.is_directory = false;
  contents.manifest_sha256.clear();
  return contents;
}

std::vector<float> embeddings_of(const Router& router, std::size_t count) {
  std::vector<float> values(count * router.dim());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) + 1.0F);
  return values;
}

std::string fault(const DirectoryContents& contents, ErrorCode expected, StoredEmbedder embedder = {}) {
  try {
    (void)make_router(contents, std::move(embedder), {});
  } catch (const Error& error) {
    CHECK(error.code() == expected);
    return error.what();
  }
  return "was made";
}

float win_rate(const Router& router, std::string_view text, bool is_utf8) {
  const Excerpt only = Excerpt::of(text);
  float out = 0.0F;
  router.win_rates({.texts = {&only, 1}, .is_utf8 = is_utf8}, std::nullopt, &out);
  return out;
}

TEST_CASE("contents in memory make the router that its directory makes, to the bit") {
  for (const std::string name : {"mf-none", "mf-int8-folded", "sw-float32", "sw-int8", "sw-moments"}) {
    CAPTURE(name);
    const auto stored = load_router(golden(name).string(), {});
    const auto made = make_router(in_memory(name), {}, {.strong_model = "s", .weak_model = "w", .threads = 2});
    CHECK(made->digest().empty());
    CHECK_FALSE(stored->digest().empty());
    CHECK(made->model_pair().strong == "s");
    CHECK(made->model_names() == stored->model_names());
    CHECK_FALSE(made->reads_text());
    const std::vector<float> rows = embeddings_of(*stored, 20);
    std::vector<float> expected(20);
    std::vector<float> found(20);
    for (const auto threshold : {std::optional<double>(), std::optional(0.5)}) {
      stored->win_rates(rows.data(), 20, Source::kCaller, threshold, expected.data());
      made->win_rates(rows.data(), 20, Source::kCaller, threshold, found.data());
      CHECK(found == expected);
    }
  }
}

TEST_CASE("faults of contents in memory are the arguments', of a directory its own") {
  for (const bool is_directory : {false, true}) {
    const ErrorCode expected = is_directory ? ErrorCode::kBadDirectory : ErrorCode::kInvalidArgument;
    DirectoryContents contents = is_directory ? read("sw-int8") : in_memory("sw-int8");
    contents.tensors.erase("norms");
    CHECK(fault(contents, expected).find("the router needs norms, float64") != std::string::npos);
    contents = is_directory ? read("mf-none") : in_memory("mf-none");
    const std::vector<float> huge(contents.tensors["w"].count(), 3e38F);
    contents.tensors["w"].data = reinterpret_cast<const std::byte*>(huge.data());
    CHECK(fault(contents, expected).find("weights must be finite") != std::string::npos);
  }
}

TEST_CASE("an embedder of another dimension is refused by a code of its own") {
  const auto other =
      restore_embedder(DirectoryHandle(golden("mf-int8-folded").string(), "router.json"), read("mf-int8-folded"));
  DirectoryContents contents = in_memory("mf-none");
  const Tensor& whole = contents.tensors["W"];
  const std::vector<float> values = whole.values<float>();
  contents.tensors["W"].shape[1] -= 1;
  contents.tensors["W"].bytes -= contents.tensors["W"].shape[0] * sizeof(float);
  CHECK(fault(contents, ErrorCode::kEmbedderMismatch, other).find("W projects embeddings of 8 dimensions") !=
        std::string::npos);
}

TEST_CASE("valid UTF-8 that is said to be so gets the win rate of any other text") {
  const auto router = load_router(golden("mf-int8-folded").string(), {});
  for (const std::string_view text : {"hello", "", "prove the \xC3\xA9 a?", "\xE4\xB8\xAD \xF0\x9F\x98\x80"}) {
    CHECK(win_rate(*router, text, true) == win_rate(*router, text, false));
  }
  CHECK(win_rate(*router, "a \xFF", false) == win_rate(*router, "a \xEF\xBF\xBD", false));
}

TEST_CASE("exact win rates are the bank's, and of a text the zero vector weighs all battles alike") {
  const auto exact = load_router(golden("sw-float32").string(), {});
  const auto coded = load_router(golden("sw-int8").string(), {});
  std::vector<float> rows = embeddings_of(*coded, 3);
  std::vector<double> found(3);
  coded->exact_win_rates(rows.data(), 3, Source::kCaller, found.data());
  const auto& similarity = dynamic_cast<const SimilarityWeightedRouter&>(*coded);
  std::vector<double> approximate(3);
  similarity.wide_win_rates(rows.data(), 3, approximate.data());
  std::vector<float> rounded(3);
  coded->win_rates(rows.data(), 3, Source::kCaller, std::nullopt, rounded.data());
  for (std::size_t i = 0; i < 3; ++i) CHECK(rounded[i] == static_cast<float>(approximate[i]));

  std::ranges::fill(rows, 0.0F);
  CHECK_THROWS_WITH_AS(coded->exact_win_rates(rows.data(), 1, Source::kCaller, found.data()),
                       doctest::Contains("embedding 0 is all zeros"), Error);
  coded->exact_win_rates(rows.data(), 1, Source::kText, found.data());
  CHECK(found[0] > 0.0);
  CHECK(found[0] < 1.0);

  const auto mf = load_router(golden("mf-none").string(), {});
  const std::vector<float> own = embeddings_of(*mf, 3);
  mf->win_rates(own.data(), 3, Source::kCaller, std::nullopt, rounded.data());
  mf->exact_win_rates(own.data(), 3, Source::kCaller, found.data());
  for (std::size_t i = 0; i < 3; ++i) CHECK(found[i] == static_cast<double>(rounded[i]));
}

TEST_CASE("many embeddings are ranked as each alone, and a model's tier is its score") {
  for (const std::string name : {"mf-none", "sw-int8"}) {
    const auto router = load_router(golden(name).string(), {});
    const std::size_t models = router->model_names().size();
    const std::vector<float> rows = embeddings_of(*router, 5);
    std::vector<float> all(5 * models);
    router->rank(rows.data(), 5, all.data());
    std::vector<float> one(models);
    for (std::size_t i = 0; i < 5; ++i) {
      router->rank(rows.data() + i * router->dim(), 1, one.data());
      for (std::size_t m = 0; m < models; ++m) CHECK(one[m] == all[i * models + m]);
    }
  }
}

TEST_CASE("mapped files that are changed in place, replaced or removed") {
  for (const std::string name : {"sw-float32", "sw-int8", "sw-moments"}) {
    CAPTURE(name);
    const ScratchDirectory scratch(name);
    const fs::path file = scratch.path() / "bank.safetensors";
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(1));
    const auto router = load_router(scratch.path().string(), {});
    const Excerpt text = Excerpt::of("prove the a b c?");
    float before = 0.0F;
    router->win_rates({.texts = {&text, 1}}, std::nullopt, &before);
    // A replaced file is still as it was, for those who mapped it.
    const std::string content = scratch.read("bank.safetensors");
    fs::remove(file);
    scratch.write("bank.safetensors", content);
    float after = 0.0F;
    router->win_rates({.texts = {&text, 1}}, std::nullopt, &after);
    CHECK(after == before);
    // One that is cut off, or written to, is not scored with.
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(1));
    const auto again = load_router(scratch.path().string(), {});
    fs::resize_file(file, 4096);
    const auto refused = [&](const std::string& says) {
      try {
        again->win_rates({.texts = {&text, 1}}, std::nullopt, &after);
      } catch (const Error& error) {
        return error.code() == ErrorCode::kDamaged && std::string(error.what()).find(says) != std::string::npos;
      }
      return false;
    };
    CHECK(refused("bytes, it has 4096"));
    scratch.write("bank.safetensors", content);
    CHECK(refused("it was written to"));
    std::vector<float> scores(router->model_names().size());
    CHECK_THROWS_AS(again->rank({.texts = {&text, 1}}, scores.data()), Error);
  }
}

TEST_CASE("the battle most like an embedding of the bank is itself") {
  const auto router = load_router(golden("sw-float32").string(), {});
  const auto& similarity = dynamic_cast<const SimilarityWeightedRouter&>(*router);
  const DirectoryContents contents = read("sw-float32");
  const std::vector<float> bank = contents.mapped.find("bank")->second.values<float>();
  std::vector<double> largest(2);
  similarity.largest_similarities(bank.data(), 2, largest.data());
  for (std::size_t i = 0; i < 2; ++i) {
    double square = 0.0;
    for (std::size_t d = 0; d < router->dim(); ++d) {
      square += static_cast<double>(bank[i * router->dim() + d]) * static_cast<double>(bank[i * router->dim() + d]);
    }
    CHECK(largest[i] == doctest::Approx(std::sqrt(square)).epsilon(1e-5));
  }
}

}  // namespace
}  // namespace routellm_fast
