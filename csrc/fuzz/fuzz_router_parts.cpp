// The parts of a golden router are changed in memory, as Python gives them: values of the manifest, and types, shapes
// and numbers of tensors. What makes a router is scored with embeddings of any numbers: a win rate in [0, 1] comes, or
// an error that says why, and the same one alone and in a batch.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/reader.hpp"
#include "router/router.hpp"
#include "support/directories_in_memory.hpp"
#include "support/golden_routers.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::DataType;
using routellm_fast::DirectoryContents;
using routellm_fast::DirectoryHandle;
using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::JsonNumber;
using routellm_fast::JsonValue;
using routellm_fast::Router;
using routellm_fast::StoredEmbedder;
using routellm_fast::Tensor;
using routellm_fast::TensorMap;
using routellm_fast::fuzz::Files;
using routellm_fast::fuzz::golden_routers;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;
using routellm_fast::fuzz::small_routers;

constexpr std::size_t kMostChanges = 8;
constexpr std::size_t kQueries = 3;

struct Golden {
  DirectoryContents contents;
  StoredEmbedder embedder;
};

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all = [] {
    std::vector<Golden> read;
    std::vector<Files> all_files = golden_routers();
    all_files.insert(all_files.end(), small_routers().end() - 3, small_routers().end());
    for (const auto& files : all_files) {
      auto& directory = routellm_fast::fuzz::directories()["router"];
      directory.clear();
      for (const auto& [name, content] : files) directory[name] = content;
      const DirectoryHandle handle("router", "router.json");
      DirectoryContents contents = routellm_fast::read_directory(handle, routellm_fast::router_layout());
      StoredEmbedder embedder = routellm_fast::restore_embedder(handle, contents);
      read.push_back({std::move(contents), std::move(embedder)});
    }
    return read;
  }();
  return all;
}

// --- the manifest ---------------------------------------------------------------------------------------------------

JsonValue other_value(Script& script) {
  switch (script.byte() % 12U) {
    case 0:
      return {};
    case 1:
      return JsonValue(script.flag());
    case 2: {
      const auto integer = static_cast<std::int64_t>(script.integer(8));
      return JsonValue(JsonNumber{.value = static_cast<double>(integer), .is_integer = true, .integer = integer});
    }
    case 3:
    case 4: {
      const std::int64_t integer = script.byte();
      return JsonValue(JsonNumber{.value = static_cast<double>(integer), .is_integer = true, .integer = integer});
    }
    case 5:
    case 6: {
      // A directory's numbers are those that JSON can write.
      const double value = script.float64();
      return JsonValue(JsonNumber{.value = std::isnan(value) ? 0.0 : value, .is_integer = false, .integer = {}});
    }
    case 7:
      return JsonValue(script.take(script.byte() % 12U));
    case 8:
      return JsonValue(JsonValue::Array{});
    case 9:
      return JsonValue(JsonValue::Object{});
    case 10: {
      constexpr const char* kWords[] = {"int8", "moments", "exact", "routellm", "ignore", "mf", "sw_ranking", "a", "b"};
      return JsonValue(std::string(kWords[script.byte() % 9U]));
    }
    default:
      return JsonValue(JsonValue::Array{JsonValue(script.take(1)), JsonValue(script.take(1))});
  }
}

// A copy in which the value number `at`, counted from the outside in, is another; `at` counts down, and stays below 0.
JsonValue with_other(const JsonValue& value, int& at, Script& script) {  // NOLINT(misc-no-recursion)
  if (at-- == 0) return other_value(script);
  if (const auto* const items = value.array()) {
    JsonValue::Array copy;
    for (const JsonValue& item : *items) copy.push_back(with_other(item, at, script));
    return JsonValue(std::move(copy));
  }
  if (const auto* const members = value.object()) {
    JsonValue::Object copy;
    const std::size_t left_out = at == 200 ? 0 : members->size();  // seldom, the first member goes
    for (std::size_t k = 0; k < members->size(); ++k) {
      if (k != left_out) copy.emplace_back((*members)[k].first, with_other((*members)[k].second, at, script));
    }
    return JsonValue(std::move(copy));
  }
  return value;
}

void change_manifest(DirectoryContents& contents, Script& script) {
  constexpr const char* kKeys[] = {"settings", "settings", "settings", "model_pair", "calibration"};
  const char* const key = kKeys[script.byte() % 5U];
  int at = 1 + script.byte() % 220;
  JsonValue changed = with_other(contents.entry(key), at, script);
  contents.manifest = std::move(contents.manifest).with(key, std::move(changed));
}

// --- tensors --------------------------------------------------------------------------------------------------------

// Numbers in memory of their own size, aligned as those of a mapped file.
Tensor tensor_of(DataType type, routellm_fast::Shape shape, const std::byte* data, std::size_t bytes) {
  const auto memory = std::make_shared<routellm_fast::AlignedVector<std::byte>>(data, data + bytes);
  return {.type = type, .shape = std::move(shape), .data = memory->data(), .bytes = bytes, .owner = memory};
}

void put_numbers(Tensor& tensor, Script& script) {
  if (tensor.count() == 0) return;
  std::vector<std::byte> bytes = tensor.values<std::byte>();
  const std::size_t first = script.below(tensor.count());
  const std::size_t count = std::min<std::size_t>(script.byte(), tensor.count() - first);
  const std::size_t width = routellm_fast::size_of(tensor.type);
  std::byte value[8]{};
  if (tensor.type == DataType::kFloat32) {
    const float number = script.float32();
    std::memcpy(value, &number, sizeof number);
  } else if (tensor.type == DataType::kFloat64) {
    const double number = script.float64();
    std::memcpy(value, &number, sizeof number);
  } else {
    const std::uint64_t number = script.integer(width == 1 ? 1 : 2);
    std::memcpy(value, &number, sizeof number);
    if (script.byte() == 255) std::memset(value, 0xFF, sizeof value);
  }
  for (std::size_t k = 0; k < count; ++k) std::memcpy(bytes.data() + (first + k) * width, value, width);
  tensor = tensor_of(tensor.type, tensor.shape, bytes.data(), bytes.size());
}

void reshape(Tensor& tensor, Script& script) {
  routellm_fast::Shape shape = tensor.shape;
  DataType type = tensor.type;
  switch (script.byte() % 6U) {
    case 0:
      if (!shape.empty()) shape[script.below(shape.size())] = script.byte() % 80U;
      break;
    case 1:
      if (!shape.empty()) shape.pop_back();
      break;
    case 2:
      shape.push_back(script.byte() % 4U);
      break;
    case 3:
      type = static_cast<DataType>(script.byte() % 12U);
      break;
    case 4:
      if (!shape.empty()) ++shape.front();
      break;
    default:
      if (!shape.empty() && shape.front() > 0) --shape.front();
      break;
  }
  const auto bytes = routellm_fast::bytes_of(type, shape).value_or(0);
  if (bytes > (std::size_t{1} << 20)) return;
  std::vector<std::byte> data = tensor.values<std::byte>();
  data.resize(bytes);
  tensor = tensor_of(type, std::move(shape), data.data(), data.size());
}

void change_tensors(TensorMap& tensors, Script& script) {
  if (tensors.empty()) return;
  const auto chosen = [&] {
    return std::next(tensors.begin(), static_cast<std::ptrdiff_t>(script.below(tensors.size())));
  };
  const auto tensor = chosen();
  switch (script.byte() % 8U) {
    case 0:
      reshape(tensor->second, script);
      break;
    case 1: {
      const Tensor other = chosen()->second;
      chosen()->second = tensor->second;
      tensor->second = other;
      break;
    }
    case 2:
      tensors.erase(tensor);
      break;
    default:
      put_numbers(tensor->second, script);
      break;
  }
}

// --- scoring --------------------------------------------------------------------------------------------------------

std::string list_of_codes(const Error& error) { return std::string("an error of its own kind comes: ") + error.what(); }

// Whether it ran, or was refused by an error that a caller can cause.
template <typename Call>
bool succeeds(const Call& call) {
  try {
    call();
    return true;
  } catch (const Error& error) {
    const bool is_expected = error.code() == ErrorCode::kInvalidArgument ||
                             error.code() == ErrorCode::kInvalidEmbedding || error.code() == ErrorCode::kDamaged ||
                             error.code() == ErrorCode::kEmbedderMismatch || error.code() == ErrorCode::kNoEmbedder;
    require(is_expected, list_of_codes(error).c_str());
    require(error.what()[0] != '\0', "an error says why");
    return false;
  }
}

template <typename T>
void check_win_rates(const std::vector<T>& win_rates) {
  for (const T win_rate : win_rates) require(win_rate >= 0 && win_rate <= 1, "a win rate lies in [0, 1]");
}

void score(const Router& router, Script& script) {
  const std::size_t dim = router.dim();
  if (dim > 4096) return;
  std::vector<float> embeddings(kQueries * dim);
  for (std::size_t i = 0; i < embeddings.size(); ++i) {
    embeddings[i] = script.is_over() ? std::sin(static_cast<float>(i)) : script.float32();
  }
  using routellm_fast::Source;
  std::vector<float> together(kQueries);
  const bool all = succeeds([&] {
    router.win_rates(embeddings.data(), kQueries, Source::kCaller, 0.5, together.data());
    check_win_rates(together);
  });
  for (std::size_t k = 0; k < kQueries; ++k) {
    std::vector<float> alone(1);
    const bool one =
        succeeds([&] { router.win_rates(embeddings.data() + k * dim, 1, Source::kCaller, 0.5, alone.data()); });
    require(one || !all, "what is scored in a batch is scored alone");
    if (one) check_win_rates(alone);
    if (one && all) require(alone[0] == together[k], "a win rate does not depend on the batch");
  }
  (void)succeeds([&] {
    std::vector<double> exact(kQueries);
    router.exact_win_rates(embeddings.data(), kQueries, Source::kCaller, exact.data());
    check_win_rates(exact);
  });
  std::vector<float> scores(kQueries * router.model_names().size());
  (void)succeeds([&] { router.rank(embeddings.data(), kQueries, scores.data()); });
  (void)succeeds([&] {
    const routellm_fast::Excerpt texts[] = {routellm_fast::Excerpt::of("prove the a b c?"),
                                            routellm_fast::Excerpt::of("")};
    std::vector<float> of_texts(2);
    router.win_rates({.texts = texts}, 0.5, of_texts.data());
    check_win_rates(of_texts);
  });
  (void)succeeds([&] {
    const double threshold = router.threshold_for(0.3);
    require(threshold >= 0.0 && threshold <= 1.0, "a threshold lies in [0, 1]");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const Golden& golden = goldens()[script.byte() % goldens().size()];
  DirectoryContents contents;
  contents.path = "parts";
  contents.manifest = golden.contents.manifest;
  contents.tensors = golden.contents.tensors;
  contents.mapped = golden.contents.mapped;
  const std::size_t changes = script.byte() % (kMostChanges + 1);
  for (std::size_t k = 0; k < changes; ++k) {
    const std::uint8_t what = script.byte();
    if (what % 4U == 0) {
      change_manifest(contents, script);
    } else {
      change_tensors(what % 4U == 1 ? contents.mapped : contents.tensors, script);
    }
  }
  (void)succeeds([&] {
    // The layout that whoever makes contents has checked.
    routellm_fast::check_manifest(contents.manifest, routellm_fast::router_layout(), contents.path);
  });
  std::shared_ptr<const Router> router;
  const bool was_made = succeeds([&] { router = routellm_fast::make_router(contents, golden.embedder, {}); });
  if (changes == 0) require(was_made, "a golden router is made");
  if (was_made) score(*router, script);
  return 0;
}
