// A list of calls to the C ABI on a few routers, with arguments that are NULL, too many or out of range. Every call
// returns a status that its arguments explain, and never changes memory that it was not given.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "routellm_fast.h"
#include "support/directories_in_memory.hpp"
#include "support/golden_routers.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::fuzz::check_scored;
using routellm_fast::fuzz::golden_routers;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

constexpr std::size_t kMostCalls = 24;
constexpr std::size_t kMostRows = 4;
constexpr float kUntouched = 7.0F;

std::string name_of(std::size_t golden) { return "router " + std::to_string(golden); }

struct Free {
  void operator()(routellm_router* router) const { routellm_free(router); }
};
using Loaded = std::unique_ptr<routellm_router, Free>;

// Golden routers, loaded once; the last of these is NULL.
const std::vector<Loaded>& routers() {
  static const std::vector<Loaded> all = [] {
    std::vector<Loaded> loaded;
    for (std::size_t k = 0; k < golden_routers().size(); ++k) {
      auto& directory = routellm_fast::fuzz::directories()[name_of(k)];
      for (const auto& [name, content] : golden_routers()[k]) directory[name] = content;
      routellm_router* router = nullptr;
      require(routellm_load(name_of(k).c_str(), nullptr, &router) == ROUTELLM_OK, "a golden router is loaded");
      loaded.emplace_back(router);
    }
    loaded.emplace_back(nullptr);
    return loaded;
  }();
  return all;
}

struct Texts {
  std::vector<std::string> held;
  std::vector<const char*> pointers;
  std::vector<std::size_t> bytes;
};

Texts read_texts(Script& script, std::size_t count) {
  Texts texts;
  for (std::size_t k = 0; k < count; ++k) texts.held.push_back(script.text());
  for (const std::string& text : texts.held) {
    const bool is_null = text.size() % 8 == 5;
    texts.pointers.push_back(is_null ? nullptr : text.data());
    texts.bytes.push_back(is_null && text[0] % 2 == 0 ? 0 : text.size());
  }
  return texts;
}

std::vector<float> read_embeddings(Script& script, std::size_t count) {
  std::vector<float> values(count);
  const bool is_plain = script.flag();
  for (float& value : values) value = is_plain ? static_cast<float>(script.byte()) - 100.0F : script.float32();
  return values;
}

double read_threshold(Script& script) {
  const std::uint8_t which = script.byte();
  return which < 200 ? which / 199.0 : script.float64();
}

void load(Script& script) {
  const std::size_t golden = script.byte() % 12U;  // some of which are not there
  const std::string strong = script.take(script.byte() % 16U);
  const std::string weak = script.take(script.byte() % 16U);
  const std::uint8_t form = script.byte();
  struct {
    routellm_load_options options;
    std::array<unsigned char, 64> behind;
  } given{};
  given.options.size = sizeof(routellm_load_options) + (form % 8U == 1 ? script.byte() % 80U : 0U);
  if (form % 8U == 2)
    given.options.size = static_cast<std::uint32_t>(script.integer(4)) % sizeof(routellm_load_options);
  if (form % 8U == 3) given.behind[script.below(64)] = script.byte();
  given.options.size = std::min<std::uint32_t>(given.options.size, sizeof given);
  given.options.strong_model = strong.empty() ? nullptr : strong.c_str();
  given.options.weak_model = weak.empty() ? nullptr : weak.c_str();
  given.options.threads = static_cast<std::uint32_t>(script.byte());
  routellm_router* router = nullptr;
  const routellm_status status = routellm_load(name_of(golden).c_str(), form % 2U == 0 ? nullptr : &given.options,
                                               form == 255 ? nullptr : &router);
  check_scored(status, nullptr, 0);
  require((status == ROUTELLM_OK) == (router != nullptr), "a router comes with success alone");
  if (router != nullptr && form % 2U == 1 && given.options.strong_model != nullptr) {
    require(std::strcmp(routellm_strong_model(router), strong.c_str()) == 0, "a model has the name it was given");
  }
  routellm_free(router);
}

void describe(const routellm_router* router, Script& script) {
  const std::size_t models = routellm_model_count(router);
  const std::size_t index = script.byte();
  require((routellm_model_name(router, index)[0] == '\0') == (index >= models), "a model that is there has a name");
  require(routellm_kind(router)[0] != '\0' || router == nullptr, "a router has a kind");
  require(std::strlen(routellm_digest(router)) == (router == nullptr ? 0U : 64U), "a router has a digest");
  require(routellm_status_name(static_cast<routellm_status>(script.byte() % 8U))[0] != '\0', "a status has a name");
  double threshold = -1.0;
  const double share = read_threshold(script);
  const routellm_status status = routellm_threshold_for(router, share, script.byte() == 255 ? nullptr : &threshold);
  check_scored(status, nullptr, 0);
  if (status == ROUTELLM_OK) require(threshold >= 0.0 && threshold <= 1.0, "a threshold lies in [0, 1]");
}

// Room for win rates and decisions, with a border behind it.
struct Room {
  std::array<float, kMostRows + 1> win_rates{};
  std::array<std::uint8_t, kMostRows + 1> is_strong{};

  Room() {
    win_rates.fill(kUntouched);
    is_strong.fill(7);
  }
  void check(routellm_status status, std::size_t count, double threshold, bool decides) const {
    check_scored(status, win_rates.data(), count);
    require(win_rates.at(count) == kUntouched && is_strong.at(count) == 7, "nothing is written behind an output");
    if (status != ROUTELLM_OK || !decides) return;
    for (std::size_t k = 0; k < count; ++k) {
      const bool expected = static_cast<double>(win_rates.at(k)) >= threshold;
      require(is_strong.at(k) == (expected ? 1 : 0), "a decision is that of win rate and threshold");
    }
  }
};

void score_texts(const routellm_router* router, Script& script) {
  const std::uint8_t form = script.byte();
  const std::size_t count = form % (kMostRows + 1);
  const double threshold = read_threshold(script);
  const Texts texts = read_texts(script, count);
  const char* const* const pointers = form >= 250 ? nullptr : texts.pointers.data();
  Room room;
  if (form / 8U % 2U == 0) {
    room.check(routellm_win_rates(router, pointers, texts.bytes.data(), count, room.win_rates.data()), count, 0, false);
  } else {
    room.check(routellm_route_batch(router, pointers, texts.bytes.data(), count, threshold, room.win_rates.data(),
                                    room.is_strong.data()),
               count, threshold, true);
  }
  // One by one they must be what they are together.
  for (std::size_t k = 0; k < count; ++k) {
    float alone = kUntouched;
    int is_strong = 7;
    const bool decides = form / 8U % 2U == 1;
    const routellm_status status =
        decides ? routellm_route(router, texts.pointers[k], texts.bytes[k], threshold, &alone, &is_strong)
                : routellm_win_rate(router, texts.pointers[k], texts.bytes[k], &alone);
    check_scored(status, &alone, 1);
    if (status == ROUTELLM_OK && room.win_rates.at(k) != kUntouched) {
      require(alone == room.win_rates.at(k), "a win rate does not depend on the batch");
    }
  }
  if (count > 0 && router != nullptr) {
    std::vector<float> scores(routellm_model_count(router) + 1, kUntouched);
    check_scored(routellm_rank(router, texts.pointers[0], texts.bytes[0], scores.data()), nullptr, 0);
    require(scores.back() == kUntouched, "nothing is written behind an output");
  }
}

void score_embeddings(const routellm_router* router, Script& script) {
  const std::uint8_t form = script.byte();
  const std::size_t count = form % (kMostRows + 1);
  const std::size_t dim = form >= 250 ? script.byte() : routellm_dim(router);
  const double threshold = read_threshold(script);
  const std::vector<float> values = read_embeddings(script, count * dim);
  Room room;
  if (form / 8U % 2U == 0) {
    room.check(routellm_win_rates_from_embeddings(router, values.data(), count, dim, room.win_rates.data()), count, 0,
               false);
  } else {
    room.check(routellm_route_embeddings(router, values.data(), count, dim, threshold, room.win_rates.data(),
                                         room.is_strong.data()),
               count, threshold, true);
  }
  if (count > 0 && router != nullptr) {
    std::vector<float> scores(routellm_model_count(router) + 1, kUntouched);
    check_scored(routellm_rank_embedding(router, values.data(), dim, scores.data()), nullptr, 0);
    require(scores.back() == kUntouched, "nothing is written behind an output");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  for (std::size_t k = 0; k < kMostCalls && !script.is_over(); ++k) {
    const std::uint8_t call = script.byte();
    const routellm_router* const router = routers()[call / 8U % routers().size()].get();
    switch (call % 8U) {
      case 0:
        load(script);
        break;
      case 1:
        describe(router, script);
        break;
      case 2:
      case 3:
      case 4:
        score_texts(router, script);
        break;
      default:
        score_embeddings(router, script);
        break;
    }
  }
  return 0;
}
