#include "support/golden_routers.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "directory/sha256.hpp"
#include "support/require.hpp"

namespace routellm_fast::fuzz {

namespace {

std::vector<Files> read_all(const std::filesystem::path& folder, std::span<const char* const> names) {
  std::vector<Files> found;
  for (const char* const name : names) {
    Files files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / name)) {
      std::ifstream file(entry.path(), std::ios::binary);
      files[entry.path().filename().string()] =
          std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    files.erase("README.md");
    found.push_back(files);
  }
  return found;
}

}  // namespace

const std::vector<Files>& golden_routers() {
  static const std::vector<Files> all = [] {
    constexpr const char* kNames[] = {"mf-int8-folded", "mf-float32-normalized",
                                      "mf-external",    "mf-calibrated",
                                      "mf-none",        "sw-float32",
                                      "sw-int8",        "sw-moments",
                                      "mf-ends"};
    return read_all(ROUTELLM_FAST_ARTIFACTS, kNames);
  }();
  return all;
}

const std::vector<Files>& small_routers() {
  static const std::vector<Files> all = [] {
    constexpr const char* kSmall[] = {"sw-float32-small", "sw-int8-small", "sw-moments-small"};
    constexpr const char* kGolden[] = {"mf-int8-folded", "mf-float32-normalized", "mf-external", "mf-calibrated",
                                       "mf-none"};
    std::vector<Files> found = read_all(ROUTELLM_FAST_ARTIFACTS, kGolden);
    for (Files& files : read_all(ROUTELLM_FAST_FIXTURES, kSmall)) found.push_back(std::move(files));
    return found;
  }();
  return all;
}

void damage(std::string& content, std::uint8_t how, std::size_t place, std::uint8_t value) {
  const std::size_t at = content.empty() ? 0 : place % content.size();
  switch (how % 5) {
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

void record(std::string& manifest, std::string_view name, std::string_view content) {
  std::string entry = "\"";
  entry.append(name).append(R"(": {"bytes": )");
  const std::size_t begin = manifest.find(entry);
  const std::size_t end = begin == std::string::npos ? begin : manifest.find('}', begin);
  if (end == std::string::npos) return;
  const std::string digest = sha256_of(std::as_bytes(std::span(content)));
  entry.append(std::to_string(content.size())).append(R"(, "sha256": ")").append(digest).append("\"");
  manifest.replace(begin, end - begin, entry);
}

void check_scored(routellm_status status, const float* win_rates, std::size_t count) {
  require(status != ROUTELLM_INTERNAL, "no call ends in an internal error");
  if (status != ROUTELLM_OK) {
    require(routellm_last_error()[0] != '\0', "a call that fails says why");
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    require(win_rates[i] >= 0.0F && win_rates[i] <= 1.0F, "a win rate lies in [0, 1]");
  }
}

void score(const routellm_router* router) {
  const std::size_t dim = routellm_dim(router);
  if (dim > (std::size_t{1} << 20)) return;
  std::vector<float> embeddings(2 * dim);
  for (std::size_t i = 0; i < embeddings.size(); ++i) embeddings[i] = std::sin(static_cast<float>(i) + 1.0F);
  float win_rates[3];
  std::uint8_t strong[3];
  check_scored(routellm_win_rates_from_embeddings(router, embeddings.data(), 2, dim, win_rates), win_rates, 2);
  check_scored(routellm_route_embeddings(router, embeddings.data(), 2, dim, 0.5, win_rates, strong), win_rates, 2);
  std::vector<float> scores(routellm_model_count(router));
  check_scored(routellm_rank_embedding(router, embeddings.data(), dim, scores.data()), nullptr, 0);
  const char* const texts[3] = {"prove the a b c?", "", "hello \xFF"};
  const std::size_t bytes[3] = {16, 0, 7};
  check_scored(routellm_win_rates(router, texts, bytes, 3, win_rates), win_rates, 3);
  check_scored(routellm_route_batch(router, texts, bytes, 3, 0.5, win_rates, strong), win_rates, 3);
  double threshold = 0.5;
  require(routellm_threshold_for(router, 0.3, &threshold) != ROUTELLM_INTERNAL, "a threshold is found or refused");
  require(threshold >= 0.0 && threshold <= 1.0, "a threshold lies in [0, 1]");
}

}  // namespace routellm_fast::fuzz
