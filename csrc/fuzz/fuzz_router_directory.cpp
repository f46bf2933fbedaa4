// A golden router directory with a few bytes changed is loaded by the C ABI, and scored with where it loads. The first
// byte chooses the directory and whether digests are made right again, so that damage behind them is reached; each
// further five bytes are one change. Bytes that are left over make files symbolic links. Aborts where a call ends in an
// internal error, or a win rate lies outside [0, 1].

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "directory/sha256.hpp"
#include "routellm_fast.h"

namespace {

namespace fs = std::filesystem;

using Files = std::map<std::string, std::string>;

void require(bool condition) {
  if (!condition) std::abort();
}

const std::vector<Files>& goldens() {
  static const std::vector<Files> all = [] {
    std::vector<Files> found;
    for (const char* const name : {"mf-int8-folded", "mf-float32-normalized", "mf-external", "mf-calibrated", "mf-none",
                                   "sw-float32", "sw-int8", "sw-moments"}) {
      Files files;
      for (const auto& entry : fs::directory_iterator(fs::path(ROUTELLM_FAST_ARTIFACTS) / name)) {
        std::ifstream file(entry.path(), std::ios::binary);
        files[entry.path().filename().string()] =
            std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      }
      files.erase("README.md");
      found.push_back(files);
    }
    return found;
  }();
  return all;
}

const fs::path& folder() {
  static const fs::path path = [] {
    const fs::path shared = "/dev/shm";
    std::string pattern = ((fs::exists(shared) ? shared : fs::temp_directory_path()) / "routellm-fuzz-XXXXXX").string();
    require(mkdtemp(pattern.data()) != nullptr);
    std::atexit([] { fs::remove_all(folder()); });
    return fs::path(pattern);
  }();
  return path;
}

// Overwrites, inserts, deletes or cuts off at a place of a file.
void change(std::string& content, std::uint8_t kind, std::size_t place, std::uint8_t value) {
  const std::size_t at = content.empty() ? 0 : place % content.size();
  switch (kind % 5) {
    case 0:
      if (!content.empty()) content[at] = static_cast<char>(value);
      break;
    case 1:
      content.insert(at, 1, static_cast<char>(value));
      break;
    case 2:
      content.erase(at, 1 + value % 8U);
      break;
    case 3:
      content.resize(at);
      break;
    default:
      content.insert(at, content.substr(at, value));  // the same twice
      break;
  }
}

// Puts size and digest of each file into the manifest, where its entries still look as they did.
void record(Files& files) {
  std::string& manifest = files["router.json"];
  for (const auto& [name, content] : files) {
    if (name == "router.json") continue;
    const std::string key = "\"" + name + R"(": {"bytes": )";
    const std::size_t begin = manifest.find(key);
    const std::size_t end = begin == std::string::npos ? begin : manifest.find('}', begin);
    if (end == std::string::npos) continue;
    const std::string digest = routellm_fast::sha256_of(std::as_bytes(std::span(content)));
    std::string entry = key;
    entry.append(std::to_string(content.size())).append(R"(, "sha256": ")").append(digest).append("\"");
    manifest.replace(begin, end - begin, entry);
  }
}

// Writes the router directory anew. Of each eight files in the order of their names, `links` says which ones are
// symbolic links to files elsewhere.
void write(const Files& files, std::uint8_t links) {
  const fs::path router = folder() / "router";
  const fs::path blobs = folder() / "blobs";
  for (const fs::path& place : {router, blobs}) {
    fs::create_directories(place);
    for (const auto& entry : fs::directory_iterator(place)) fs::remove(entry.path());
  }
  std::size_t k = 0;
  for (const auto& [name, content] : files) {
    const bool is_link = (static_cast<unsigned>(links) >> k++ % 8U & 1U) != 0;
    std::ofstream((is_link ? blobs : router) / name, std::ios::binary) << content;
    if (is_link) fs::create_symlink(fs::path("../blobs") / name, router / name);
  }
}

void check(routellm_status status, const float* win_rates, std::size_t count) {
  require(status != ROUTELLM_INTERNAL);
  if (status != ROUTELLM_OK) {
    require(routellm_last_error()[0] != '\0');
    return;
  }
  for (std::size_t i = 0; i < count; ++i) require(win_rates[i] >= 0.0F && win_rates[i] <= 1.0F);
}

void score(const routellm_router* router) {
  const std::size_t dim = routellm_dim(router);
  if (dim > (std::size_t{1} << 20)) return;
  std::vector<float> embeddings(2 * dim);
  for (std::size_t i = 0; i < embeddings.size(); ++i) embeddings[i] = std::sin(static_cast<float>(i) + 1.0F);
  float win_rates[3];
  std::uint8_t strong[3];
  check(routellm_win_rates_from_embeddings(router, embeddings.data(), 2, dim, win_rates), win_rates, 2);
  check(routellm_route_embeddings(router, embeddings.data(), 2, dim, 0.5, win_rates, strong), win_rates, 2);
  std::vector<float> scores(routellm_model_count(router));
  check(routellm_rank_embedding(router, embeddings.data(), dim, scores.data()), nullptr, 0);
  const char* const texts[3] = {"prove the a b c?", "", "hello \xFF"};
  const std::size_t bytes[3] = {16, 0, 7};
  check(routellm_win_rates(router, texts, bytes, 3, win_rates), win_rates, 3);
  check(routellm_route_batch(router, texts, bytes, 3, 0.5, win_rates, strong), win_rates, 3);
  double threshold = 0.5;
  require(routellm_threshold_for(router, 0.3, &threshold) != ROUTELLM_INTERNAL);
  require(threshold >= 0.0 && threshold <= 1.0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Files files = goldens()[data[0] / 2U % goldens().size()];
  constexpr std::size_t kChangeBytes = 5;
  const std::size_t changes = std::min<std::size_t>((size - 1) / kChangeBytes, 16);
  for (std::size_t k = 0; k < changes; ++k) {
    const std::uint8_t* const c = data + 1 + k * kChangeBytes;
    auto const file = std::next(files.begin(), static_cast<std::ptrdiff_t>(c[0] / 5U % files.size()));
    change(file->second, c[0], static_cast<std::size_t>(c[1]) << 8U | c[2] | static_cast<std::size_t>(c[3]) << 16U,
           c[4]);
  }
  if (data[0] % 2U == 0) record(files);
  write(files, (size - 1) % kChangeBytes == 0 ? std::uint8_t{0} : data[size - 1]);

  routellm_router* router = nullptr;
  const routellm_status status = routellm_load((folder() / "router").c_str(), nullptr, &router);
  require(status != ROUTELLM_INTERNAL && status != ROUTELLM_INVALID_ARGUMENT);
  require((status == ROUTELLM_OK) == (router != nullptr));
  if (changes == 0) require(status == ROUTELLM_OK);
  if (router != nullptr) score(router);
  routellm_free(router);
  return 0;
}
