#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "routellm_fast.h"
#include "support/scratch_directory.hpp"

namespace routellm_fast {
namespace {

struct Free {
  void operator()(routellm_router* router) const { routellm_free(router); }
};
using Loaded = std::unique_ptr<routellm_router, Free>;

Loaded loaded(const std::string& name, const routellm_load_options* options = nullptr) {
  routellm_router* router = nullptr;
  REQUIRE(routellm_load(golden(name).c_str(), options, &router) == ROUTELLM_OK);
  return Loaded(router);
}

bool says(const std::string& part) {
  CAPTURE(routellm_last_error());
  return std::string(routellm_last_error()).find(part) != std::string::npos;
}

const std::vector<std::string> kNames{"mf-int8-folded", "mf-float32-normalized", "sw-float32", "sw-int8", "sw-moments"};

TEST_CASE("what the library says of itself and of a router") {
  CHECK(routellm_abi_version() == ROUTELLM_FAST_ABI_VERSION);
  CHECK(std::string(routellm_version()).find('.') != std::string::npos);
  CHECK(std::string(routellm_status_name(ROUTELLM_BAD_DIRECTORY)) == "bad directory");
  CHECK(std::string(routellm_status_name(static_cast<routellm_status>(99))) == "unknown status");
  const Loaded router = loaded("sw-int8");
  CHECK(std::string(routellm_kind(router.get())) == "sw_ranking");
  const std::string manifest = read_text(golden("sw-int8") / "router.json");
  CHECK(std::string(routellm_digest(router.get())) == sha256_of(std::as_bytes(std::span(manifest))));
  CHECK(std::string(routellm_strong_model(router.get())) == "strong-model");
  CHECK(std::string(routellm_weak_model(router.get())) == "weak-model");
  CHECK(routellm_dim(router.get()) == 9);
  CHECK(routellm_reads_text(router.get()) == 1);
  CHECK(routellm_model_count(router.get()) == 4);
  CHECK(std::string(routellm_model_name(router.get(), 2)) == "other-model");
  CHECK(std::string(routellm_model_name(router.get(), 4)).empty());
}

TEST_CASE("a mapped file that is cut off while its router is in use is an error and no signal") {
  const ScratchDirectory scratch("sw-int8");
  routellm_router* router = nullptr;
  REQUIRE(routellm_load(scratch.path().c_str(), nullptr, &router) == ROUTELLM_OK);
  const Loaded kept(router);
  float win_rate = 0.0F;
  CHECK(routellm_win_rate(router, "a b", 3, &win_rate) == ROUTELLM_OK);
  std::filesystem::resize_file(scratch.path() / "codes.safetensors", 0);
  CHECK(routellm_win_rate(router, "a b", 3, &win_rate) == ROUTELLM_BAD_DIRECTORY);
  CHECK(says("codes.safetensors was changed in place while it is in use"));
}

TEST_CASE("a directory of symbolic links is loaded as the files that they lead to") {
  const ScratchDirectory scratch("sw-int8");
  scratch.link_files();
  routellm_router* router = nullptr;
  REQUIRE(routellm_load(scratch.path().c_str(), nullptr, &router) == ROUTELLM_OK);
  const Loaded linked(router);
  const Loaded plain = loaded("sw-int8");
  CHECK(std::string(routellm_digest(linked.get())) == routellm_digest(plain.get()));
  float rates[2] = {-1.0F, -2.0F};
  CHECK(routellm_win_rate(linked.get(), "hello", 5, &rates[0]) == ROUTELLM_OK);
  CHECK(routellm_win_rate(plain.get(), "hello", 5, &rates[1]) == ROUTELLM_OK);
  CHECK(rates[0] == rates[1]);

  std::filesystem::remove(scratch.parent() / "blobs" / "blob-of-bank.safetensors");
  CHECK(routellm_load(scratch.path().c_str(), nullptr, &router) == ROUTELLM_NOT_FOUND);
  CHECK(says("bank.safetensors is a symbolic link to ../blobs/blob-of-bank.safetensors, which cannot be opened"));
}

TEST_CASE("NULL is an argument like any other: refused, or nothing") {
  routellm_router* router = nullptr;
  CHECK(routellm_load(nullptr, nullptr, &router) == ROUTELLM_INVALID_ARGUMENT);
  CHECK(says("directory is NULL"));
  CHECK(routellm_load("x", nullptr, nullptr) == ROUTELLM_INVALID_ARGUMENT);
  routellm_free(nullptr);
  CHECK(std::string(routellm_kind(nullptr)).empty());
  CHECK(std::string(routellm_digest(nullptr)).empty());
  CHECK(std::string(routellm_strong_model(nullptr)).empty());
  CHECK(std::string(routellm_weak_model(nullptr)).empty());
  CHECK(std::string(routellm_model_name(nullptr, 0)).empty());
  CHECK(routellm_dim(nullptr) == 0);
  CHECK(routellm_reads_text(nullptr) == 0);
  CHECK(routellm_model_count(nullptr) == 0);

  const Loaded held = loaded("mf-int8-folded");
  const routellm_router* const r = held.get();
  const char* const text = "a";
  const std::size_t bytes = 1;
  const float embedding[9] = {};
  float out[16];
  int strong = 0;
  std::uint8_t strongs[2];
  double threshold = 0.0;
  const routellm_status invalid = ROUTELLM_INVALID_ARGUMENT;
  CHECK(routellm_threshold_for(nullptr, 0.5, &threshold) == invalid);
  CHECK(routellm_threshold_for(r, 0.5, nullptr) == invalid);
  CHECK(routellm_win_rate(nullptr, text, bytes, out) == invalid);
  CHECK(says("router is NULL"));
  CHECK(routellm_win_rate(r, nullptr, bytes, out) == invalid);
  CHECK(says("text is NULL"));
  CHECK(routellm_win_rate(r, text, bytes, nullptr) == invalid);
  CHECK(routellm_win_rates(r, nullptr, &bytes, 1, out) == invalid);
  CHECK(routellm_win_rates(r, &text, nullptr, 1, out) == invalid);
  CHECK(routellm_win_rates(r, &text, &bytes, 1, nullptr) == invalid);
  const char* const none = nullptr;
  CHECK(routellm_win_rates(r, &none, &bytes, 1, out) == invalid);
  CHECK(says("text 0 is NULL"));
  CHECK(routellm_win_rates_from_embeddings(r, nullptr, 1, 9, out) == invalid);
  CHECK(routellm_win_rates_from_embeddings(r, embedding, 1, 9, nullptr) == invalid);
  CHECK(routellm_route(r, text, bytes, 0.5, nullptr, &strong) == invalid);
  CHECK(routellm_route(r, text, bytes, 0.5, out, nullptr) == invalid);
  CHECK(routellm_route_batch(r, &text, &bytes, 1, 0.5, out, nullptr) == invalid);
  CHECK(routellm_route_embeddings(r, embedding, 1, 9, 0.5, nullptr, strongs) == invalid);
  CHECK(routellm_rank(r, text, bytes, nullptr) == invalid);
  CHECK(routellm_rank_embedding(r, nullptr, 9, out) == invalid);

  CHECK(routellm_win_rate(r, nullptr, 0, out) == ROUTELLM_OK);  // the empty text
  CHECK(routellm_win_rates(r, nullptr, nullptr, 0, nullptr) == ROUTELLM_OK);
  CHECK(routellm_win_rates_from_embeddings(r, nullptr, 0, 9, nullptr) == ROUTELLM_OK);
  CHECK(routellm_route_batch(r, nullptr, nullptr, 0, 0.5, nullptr, nullptr) == ROUTELLM_OK);
  CHECK(routellm_route_embeddings(r, nullptr, 0, 9, 0.5, nullptr, nullptr) == ROUTELLM_OK);
}

TEST_CASE("a digest lets this router load and no other, and checks mapped tensors") {
  routellm_load_options options{};
  options.size = sizeof(options);
  const std::string digest = routellm_digest(loaded("sw-float32").get());
  for (const std::string& given : {digest, "sha256:" + digest}) {
    options.digest = given.c_str();
    CHECK(std::string(routellm_digest(loaded("sw-float32", &options).get())) == digest);
  }
  options.digest = digest.c_str();
  routellm_router* router = nullptr;
  CHECK(routellm_load(golden("mf-none").c_str(), &options, &router) == ROUTELLM_BAD_DIRECTORY);
  CHECK(says("the digest that was asked for is " + digest));
  options.digest = "abc";
  CHECK(routellm_load(golden("sw-float32").c_str(), &options, &router) == ROUTELLM_INVALID_ARGUMENT);
  CHECK(says("64 hexadecimal digits"));

  const ScratchDirectory directory("sw-float32");
  std::string bank = directory.read("bank.safetensors");
  bank.back() = static_cast<char>(bank.back() ^ 1);
  directory.write("bank.safetensors", bank);
  options.digest = nullptr;
  CHECK(routellm_load(directory.path().c_str(), &options, &router) == ROUTELLM_OK);  // its data is not read
  routellm_free(router);
  router = nullptr;
  options.digest = digest.c_str();
  CHECK(routellm_load(directory.path().c_str(), &options, &router) == ROUTELLM_BAD_DIRECTORY);
  CHECK(says("bank.safetensors has sha256"));
  CHECK(router == nullptr);
}

TEST_CASE("options of the first header, which had no digest, are taken") {
  struct {
    std::uint32_t size;
    const char* strong_model;
    const char* weak_model;
    std::uint32_t threads;
  } first{};
  first.size = sizeof(first);
  first.strong_model = "another";
  routellm_load_options options{};
  std::memset(&options, 0xFF, sizeof(options));  // what lies behind the older struct is not read
  static_assert(sizeof(first) == offsetof(routellm_load_options, digest));
  std::memcpy(&options, &first, sizeof(first));
  CHECK(std::string(routellm_strong_model(loaded("mf-none", &options).get())) == "another");
}

TEST_CASE("options: names, threads, and fields that are not known yet") {
  routellm_load_options options{};
  options.size = sizeof(options);
  options.strong_model = "another";
  options.threads = 3;
  const Loaded router = loaded("sw-float32", &options);
  CHECK(std::string(routellm_strong_model(router.get())) == "another");
  CHECK(std::string(routellm_weak_model(router.get())) == "weak-model");
  routellm_router* none = nullptr;
  const auto refused = [&](const routellm_load_options& given) {
    return routellm_load(golden("mf-none").c_str(), &given, &none) == ROUTELLM_INVALID_ARGUMENT && none == nullptr;
  };
  routellm_load_options bad{};
  CHECK(refused(bad));
  CHECK(says("options.size is 0"));
  bad.size = sizeof(bad);
  bad.weak_model = "";
  CHECK(refused(bad));
  CHECK(says("weak_model is empty"));
  bad.weak_model = "\xFF";
  CHECK(refused(bad));
  CHECK(says("not UTF-8"));
  struct {
    routellm_load_options own;
    std::uint64_t later;
  } newer{};
  newer.own.size = sizeof(newer);
  CHECK_FALSE(refused(newer.own));
  routellm_free(none);
  none = nullptr;
  newer.later = 1;
  CHECK(refused(newer.own));
  CHECK(says("upgrade"));
}

TEST_CASE("faults of a directory become a status, a text, and no router") {
  auto* router = reinterpret_cast<routellm_router*>(1);
  CHECK(routellm_load("/no/such/place", nullptr, &router) == ROUTELLM_NOT_FOUND);
  CHECK(router == nullptr);
  CHECK(routellm_load(golden("random").c_str(), nullptr, &router) == ROUTELLM_BAD_DIRECTORY);
  CHECK(says("Python package"));
  const std::string long_path(3000, 'x');
  CHECK(routellm_load(long_path.c_str(), nullptr, &router) == ROUTELLM_NOT_FOUND);
  CHECK(std::strlen(routellm_last_error()) == 1023);  // cut, not overrun
}

TEST_CASE("bad embeddings are named with their row; thresholds and shares lie in [0, 1]") {
  for (const std::string& name : kNames) {
    CAPTURE(name);
    const Loaded router = loaded(name);
    std::vector<float> embeddings(3 * 9, 0.5F);
    float out[3];
    std::uint8_t strong[3];
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      embeddings[9 + 4] = bad;
      CHECK(routellm_win_rates_from_embeddings(router.get(), embeddings.data(), 3, 9, out) ==
            ROUTELLM_INVALID_ARGUMENT);
      CHECK(says("embedding 1 has"));
      CHECK(routellm_route_embeddings(router.get(), embeddings.data(), 3, 9, 0.5, out, strong) ==
            ROUTELLM_INVALID_ARGUMENT);
      std::vector<float> scores(routellm_model_count(router.get()));
      CHECK(routellm_rank_embedding(router.get(), embeddings.data() + 9, 9, scores.data()) ==
            ROUTELLM_INVALID_ARGUMENT);
    }
    CHECK(routellm_win_rates_from_embeddings(router.get(), embeddings.data(), 1, 8, out) == ROUTELLM_INVALID_ARGUMENT);
    CHECK(says("embeddings have 8 values, this router takes 9"));
    int is_strong = 0;
    for (const double threshold : {-0.01, 1.01, std::nan("")}) {
      CHECK(routellm_route(router.get(), "a", 1, threshold, out, &is_strong) == ROUTELLM_INVALID_ARGUMENT);
      CHECK(says("threshold"));
    }
    const std::vector<float> zeros(9, 0.0F);
    const bool is_sw = name.starts_with("sw");
    CHECK(routellm_win_rates_from_embeddings(router.get(), zeros.data(), 1, 9, out) ==
          (is_sw ? ROUTELLM_INVALID_ARGUMENT : ROUTELLM_OK));
  }
  const Loaded router = loaded("mf-none");
  float out = 0.0F;
  CHECK(routellm_win_rate(router.get(), "a", 1, &out) == ROUTELLM_NO_EMBEDDER);
  CHECK(says("it holds no embedder"));
  double threshold = 0.0;
  CHECK(routellm_threshold_for(router.get(), 0.5, &threshold) == ROUTELLM_INVALID_ARGUMENT);
  CHECK(says("no calibration"));
}

const std::vector<std::string> kTexts{"hello",
                                      "prove the a b c?",
                                      "",
                                      "\u00E9crits { 1 }",
                                      "\xFF\xFE",
                                      std::string("a\0b", 3),
                                      std::string(100'000, 'a'),
                                      "\xED\xA0\x80 write"};

TEST_CASE("one text, a batch, and a decision agree to the bit, on many threads at once") {
  for (const std::string& name : kNames) {
    CAPTURE(name);
    routellm_load_options options{};
    options.size = sizeof(options);
    options.threads = 2;
    const Loaded router = loaded(name, &options);
    std::vector<const char*> texts;
    std::vector<std::size_t> bytes;
    std::vector<float> single(kTexts.size());
    for (std::size_t i = 0; i < kTexts.size(); ++i) {
      texts.push_back(kTexts[i].data());
      bytes.push_back(kTexts[i].size());
      REQUIRE(routellm_win_rate(router.get(), texts[i], bytes[i], &single[i]) == ROUTELLM_OK);
      CHECK(single[i] >= 0.0F);
      CHECK(single[i] <= 1.0F);
    }
    std::vector<std::thread> threads;
    std::vector<int> equal(4, 0);
    threads.reserve(equal.size());
    for (std::size_t t = 0; t < equal.size(); ++t) {
      threads.emplace_back([&, t] {
        bool same = true;
        for (int round = 0; round < 5; ++round) {
          std::vector<float> batch(texts.size());
          same = same && routellm_win_rates(router.get(), texts.data(), bytes.data(), texts.size(), batch.data()) ==
                             ROUTELLM_OK;
          same = same && batch == single;
          std::vector<std::uint8_t> strong(texts.size());
          same = same && routellm_route_batch(router.get(), texts.data(), bytes.data(), texts.size(), 0.7, batch.data(),
                                              strong.data()) == ROUTELLM_OK;
          for (std::size_t i = 0; i < texts.size(); ++i) {
            float win_rate = 0.0F;
            int is_strong = -1;
            same = same &&
                   routellm_route(router.get(), texts[i], bytes[i], 0.7, &win_rate, &is_strong) == ROUTELLM_OK &&
                   win_rate == batch[i] && std::cmp_equal(is_strong, strong[i]) &&
                   is_strong == (static_cast<double>(win_rate) >= 0.7 ? 1 : 0);
          }
          // A fault of this thread is this thread's.
          same = same && routellm_win_rate(router.get(), nullptr, 7 + t, batch.data()) == ROUTELLM_INVALID_ARGUMENT &&
                 std::string(routellm_last_error()).find(std::to_string(7 + t)) != std::string::npos;
        }
        equal[t] = same ? 1 : 0;
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int same : equal) CHECK(same == 1);
  }
}

TEST_CASE("ranks: the pair's difference of logits is its win rate; ratings are those of tiers") {
  const Loaded mf = loaded("mf-float32-normalized");
  float scores[3];
  float win_rate = 0.0F;
  REQUIRE(routellm_rank(mf.get(), "prove the a", 11, scores) == ROUTELLM_OK);
  REQUIRE(routellm_win_rate(mf.get(), "prove the a", 11, &win_rate) == ROUTELLM_OK);
  CHECK(1.0F / (1.0F + std::exp(scores[1] - scores[0])) == doctest::Approx(win_rate));
  const Loaded sw = loaded("sw-float32");
  float ratings[4];
  REQUIRE(routellm_rank(sw.get(), "prove the a", 11, ratings) == ROUTELLM_OK);
  REQUIRE(routellm_win_rate(sw.get(), "prove the a", 11, &win_rate) == ROUTELLM_OK);
  CHECK(1.0F / (1.0F + std::pow(10.0F, ratings[1] - ratings[0])) == doctest::Approx(win_rate));
}

}  // namespace
}  // namespace routellm_fast
