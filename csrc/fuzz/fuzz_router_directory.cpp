// A golden router directory is changed, loaded by the C ABI from memory, and scored with where it loads. Most changes
// know what they change: values and members of JSON (manifest, headers of tensors, tokenizer), numbers of tensors. The
// digests are made right again, mostly, so that the damage behind them is reached.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "routellm_fast.h"
#include "support/directories_in_memory.hpp"
#include "support/golden_routers.hpp"
#include "support/json_places.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::fuzz::check_scored;
using routellm_fast::fuzz::directories;
using routellm_fast::fuzz::FilesInMemory;
using routellm_fast::fuzz::json_places;
using routellm_fast::fuzz::JsonPlace;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;
using routellm_fast::fuzz::small_routers;

constexpr std::size_t kMostChanges = 16;
constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kBorder = 64;
constexpr std::string_view kManifest = "router.json";

// A golden file and where the values of its JSON lie, which for tensors is behind the length.
struct Golden {
  std::string_view name;
  std::string_view content;
  std::size_t json_begin;
  std::size_t json_end;
  std::vector<JsonPlace> places;
};

Golden golden_of(std::string_view name, std::string_view content) {
  std::size_t begin = 0;
  std::size_t end = content.size();
  if (name.ends_with(".safetensors")) {
    std::uint64_t length = 0;
    std::memcpy(&length, content.data(), kLengthBytes);
    begin = kLengthBytes;
    end = kLengthBytes + static_cast<std::size_t>(length);
  }
  return {name, content, begin, end, json_places(content.substr(begin, end - begin))};
}

const std::vector<std::vector<Golden>>& goldens() {
  static const std::vector<std::vector<Golden>> all = [] {
    std::vector<std::vector<Golden>> found;
    for (const auto& files : small_routers()) {
      auto& router = found.emplace_back();
      for (const auto& [name, content] : files) router.push_back(golden_of(name, content));
    }
    return found;
  }();
  return all;
}

std::string_view snippet(std::size_t index) {
  static const std::string deep = std::string(201, '[') + std::string(201, ']');
  static const std::vector<std::string_view> all{"null",
                                                 "true",
                                                 "false",
                                                 "0",
                                                 "1",
                                                 "-1",
                                                 "2",
                                                 "255",
                                                 "65536",
                                                 "4294967295",
                                                 "4294967296",
                                                 "9007199254740993",
                                                 "9223372036854775807",
                                                 "9223372036854775808",
                                                 "-9223372036854775808",
                                                 "1e999",
                                                 "-1e308",
                                                 "5e-324",
                                                 "0.5",
                                                 "1.0",
                                                 "-0",
                                                 "\"\"",
                                                 "\"a\"",
                                                 "[]",
                                                 "{}",
                                                 "[1,2]",
                                                 "[0,9223372036854775807]",
                                                 "[4294967296,4294967296]",
                                                 R"("\ud800")",
                                                 R"("\u0000")",
                                                 R"("../mf")",
                                                 R"("int8")",
                                                 R"("moments")",
                                                 R"("float32")",
                                                 R"("float16")",
                                                 R"("uint8")",
                                                 R"("I64")",
                                                 R"("F16")",
                                                 R"("mf")",
                                                 R"("sw_ranking")",
                                                 R"("static")",
                                                 R"("shipped")",
                                                 R"("exact")",
                                                 R"("routellm")",
                                                 R"({"strong":"a","weak":"b"})",
                                                 R"([[0,1],[1,0]])",
                                                 R"([[0,0.5],[0.5,0.5],[1,0.25]])",
                                                 R"({"router": "mf", "surface_features": []})",
                                                 deep};
  return all[index % all.size()];
}

// Puts other text in the place of a part of a golden content.
struct Replacement {
  std::size_t begin;
  std::size_t end;
  std::string text;
};

struct Number {
  std::size_t offset;
  std::size_t count;
  std::string bytes;
};

struct Damage {
  std::uint8_t how;
  std::size_t place;
  std::uint8_t value;
};

// What happens to one file.
struct Changes {
  std::vector<Replacement> replacements;
  std::vector<Number> numbers;
  std::vector<Damage> damages;
};

Replacement json_change(Script& script, const Golden& file, std::uint8_t how) {
  const JsonPlace& place = file.places[script.below(file.places.size())];
  switch (how) {
    case 0:
      return {place.begin, place.end, std::string(snippet(script.byte()))};
    case 1:
      return {place.begin, place.end, script.take(script.byte() % 32U)};
    case 2: {
      const JsonPlace& other = file.places[script.below(file.places.size())];
      return {place.begin, place.end,
              std::string(file.content.substr(file.json_begin + other.begin, other.end - other.begin))};
    }
    default:
      return {place.outer_begin, place.outer_end, ""};
  }
}

Number number_change(Script& script) {
  Number number{static_cast<std::size_t>(script.integer(2)), 1U + script.byte() % 16U, {}};
  const auto set = [&](auto value) { number.bytes.assign(reinterpret_cast<const char*>(&value), sizeof value); };
  switch (script.byte() % 4U) {
    case 0:
      set(script.float32());
      break;
    case 1:
      set(script.float64());
      break;
    case 2:
      set(static_cast<std::uint32_t>(script.integer(4)));
      break;
    default:
      set(static_cast<std::uint16_t>(script.integer(2)));
      break;
  }
  return number;
}

std::string changed(const Golden& file, Changes& changes) {
  std::string json(file.content.substr(file.json_begin, file.json_end - file.json_begin));
  std::ranges::stable_sort(changes.replacements, std::greater{}, &Replacement::begin);
  std::size_t untouched = json.size();  // what is behind has other places by now
  for (const Replacement& replacement : changes.replacements) {
    if (replacement.end > untouched) continue;
    json.replace(replacement.begin, replacement.end - replacement.begin, replacement.text);
    untouched = replacement.begin;
  }
  std::string content;
  if (file.json_begin > 0) {
    if (!changes.replacements.empty())
      json.resize((json.size() + kLengthBytes + kBorder - 1) / kBorder * kBorder - kLengthBytes, ' ');
    const std::uint64_t length = json.size();
    content.assign(reinterpret_cast<const char*>(&length), kLengthBytes);
  }
  content += json;
  const std::size_t data = content.size();
  content += file.content.substr(file.json_end);
  for (const Number& number : changes.numbers) {
    for (std::size_t k = 0; k < number.count && content.size() > data; ++k) {
      const std::size_t values = (content.size() - data) / number.bytes.size();
      if (values == 0) break;
      const std::size_t at = data + (number.offset + k) % values * number.bytes.size();
      content.replace(at, number.bytes.size(), number.bytes);
    }
  }
  for (const Damage& one : changes.damages) routellm_fast::fuzz::damage(content, one.how, one.place, one.value);
  return content;
}

// Reads the changes of all files, by a file's place.
std::map<std::size_t, Changes> read_changes(Script& script, const std::vector<Golden>& files) {
  std::map<std::size_t, Changes> all;
  for (std::size_t k = 0; k < kMostChanges && !script.is_over(); ++k) {
    const std::uint8_t what = script.byte();
    const std::size_t place = what / 8U % files.size();
    Changes& changes = all[place];
    if (what % 8U < 4) {
      changes.replacements.push_back(json_change(script, files[place], what % 4U));
    } else if (what % 8U < 7) {
      changes.numbers.push_back(number_change(script));
    } else {
      changes.damages.push_back({script.byte(), static_cast<std::size_t>(script.integer(2)), script.byte()});
    }
  }
  return all;
}

void score_once(const routellm_router* router) {
  const std::vector<float> embedding(routellm_dim(router), 0.25F);
  const char* const text = "prove the a b c?";
  const std::size_t bytes = 16;
  float win_rate = 0.0F;
  std::uint8_t strong = 0;
  check_scored(routellm_route_batch(router, &text, &bytes, 1, 0.5, &win_rate, &strong), &win_rate, 1);
  check_scored(routellm_win_rates_from_embeddings(router, embedding.data(), 1, embedding.size(), &win_rate), &win_rate,
               1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const std::uint8_t first = script.byte();
  const std::vector<Golden>& files = goldens()[first / 8U % goldens().size()];
  const bool digests_fit = first % 8U != 0;
  std::map<std::size_t, Changes> changes = read_changes(script, files);

  std::map<std::string_view, std::string> contents;
  for (auto& [place, of_file] : changes) contents[files[place].name] = changed(files[place], of_file);
  if (digests_fit && (contents.size() != 1 || !contents.contains(kManifest))) {
    const auto manifest = std::ranges::find(files, kManifest, &Golden::name);
    std::string& text = contents.try_emplace(kManifest, manifest->content).first->second;
    for (const auto& [name, content] : contents) {
      if (name != kManifest) routellm_fast::fuzz::record(text, name, content);
    }
  }
  FilesInMemory& directory = directories()["router"];
  directory.clear();
  for (const Golden& file : files) directory[std::string(file.name)] = file.content;
  for (const auto& [name, content] : contents) directory[std::string(name)] = content;

  routellm_router* router = nullptr;
  const routellm_status status = routellm_load("router", nullptr, &router);
  require(status != ROUTELLM_INTERNAL && status != ROUTELLM_INVALID_ARGUMENT, "a directory is loaded or found bad");
  require((status == ROUTELLM_OK) == (router != nullptr), "a router comes with success alone");
  if (changes.empty()) require(status == ROUTELLM_OK, "a directory without damage is loaded");
  if (router != nullptr) score_once(router);
  routellm_free(router);
  return 0;
}
