#include "embed/stored_embedder.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/reader.hpp"
#include "directory/sha256.hpp"
#include "directory/tokenizer_json.hpp"
#include "dispatch/kernels.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::string_view kTokenizerFile = "tokenizer.json";
constexpr std::string_view kPrefix = "embedder.";
constexpr const char* kShippedRouter = "mf";
constexpr std::array<std::string_view, 5> kKinds{"static", "shipped", "openai", "external", "onnx"};

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }

struct Spec {
  std::string kind;
  std::string name;
  std::int64_t dim;
  std::string fingerprint;
  const JsonValue* settings;
};

Spec read_spec(const JsonValue& entry, const std::string& where) {
  const JsonValue* const kind = entry.find("kind");
  const JsonValue* const name = entry.find("name");
  const JsonValue* const dim = entry.find("dim");
  const JsonValue* const fingerprint = entry.find("fingerprint");
  const JsonValue* const settings = entry.find("settings");
  const bool fits = entry.has_exactly({"kind", "name", "dim", "fingerprint", "settings"}) && kind->text() != nullptr &&
                    name->text() != nullptr && fingerprint->text() != nullptr && settings->object() != nullptr;
  const auto width = fits ? dim->integer() : std::nullopt;
  if (!width) refuse(where + ": an embedder entry holds kind, name, dim, fingerprint and settings");
  if (name->text()->empty()) refuse(where + ": the name of an embedder is a text, found an empty one");
  if (std::ranges::find(kKinds, *kind->text()) == kKinds.end()) {
    refuse(where + ": unknown embedder kind \"" + shown(*kind->text()) +
           "\": expected static, shipped, openai, external or onnx");
  }
  return {*kind->text(), *name->text(), *width, *fingerprint->text(), settings};
}

std::size_t count_setting(const JsonValue& value, const std::string& key, const std::string& where) {
  const auto integer = value.integer();
  if (!integer || *integer < 1) refuse(where + ": the embedder's " + key + " must be an integer from 1 on");
  return static_cast<std::size_t>(*integer);
}

StaticEmbedderOptions read_options(const JsonValue& settings, const std::string& where) {
  StaticEmbedderOptions options;
  for (const auto& [key, value] : *settings.object()) {
    if (key == "max_tokens") {
      options.max_tokens = count_setting(value, key, where);
    } else if (key == "max_code_points") {
      options.max_code_points = count_setting(value, key, where);
    } else if (key == "tail_tokens") {
      options.tail_tokens = count_setting(value, key, where);
    } else if (key == "normalize" && value.boolean() != nullptr) {
      options.normalize = *value.boolean();
    } else if (key == "surface_features" && value.array() != nullptr) {
      for (const JsonValue& name : *value.array()) {
        if (name.text() == nullptr) refuse(where + ": surface_features is a list of names");
        options.surface_features.push_back(parse_surface_feature(*name.text()));
      }
    } else {
      refuse(where + ": a static embedder's settings are max_tokens, max_code_points, normalize, " +
             "surface_features and, where the ends of long texts are read, tail_tokens; found " + shown(key) + ", " +
             value.type_name());
    }
  }
  return options;
}

template <typename T>
std::vector<T> optional_column(const TensorMap& tensors, std::string_view name, DataType type,
                               const std::string& where) {
  const auto found = tensors.find(std::string(kPrefix) + std::string(name));
  if (found == tensors.end()) return {};
  const Tensor& tensor = found->second;
  if (tensor.type != type || tensor.shape.size() != 1 || tensor.bytes == 0) {
    refuse(where + ": embedder." + std::string(name) + " must be " + name_of(type) + " (n,), found " +
           describe(tensor.type, tensor.shape));
  }
  return tensor.values<T>();
}

TokenTable read_table(const TensorMap& tensors, const std::string& where) {
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with(kPrefix)) continue;
    const std::string_view own = std::string_view(name).substr(kPrefix.size());
    if (own != "table" && own != "column_scale" && own != "rows" && own != "weights") {
      refuse(where + ": a static embedder has no tensor " + shown(name));
    }
  }
  const auto found = tensors.find("embedder.table");
  if (found == tensors.end()) refuse(where + ": a static embedder needs the tensor embedder.table");
  const Tensor& tensor = found->second;
  const bool is_int8 = tensor.type == DataType::kInt8;
  const bool is_table = is_int8 || tensor.type == DataType::kFloat32;
  if (tensor.shape.size() != 2 || !is_table) {
    refuse(where + ": embedder.table must be int8 or float32 (rows, dim), found " +
           describe(tensor.type, tensor.shape));
  }
  TokenTable table;
  table.dim = static_cast<std::size_t>(tensor.shape[1]);
  if (is_int8) {
    table.int8 = tensor.aligned_values<std::int8_t>();
  } else {
    table.float32 = tensor.aligned_values<float>();
  }
  table.column_scale = optional_column<float>(tensors, "column_scale", DataType::kFloat32, where);
  table.rows = optional_column<std::uint32_t>(tensors, "rows", DataType::kUint32, where);
  table.weights = optional_column<float>(tensors, "weights", DataType::kFloat32, where);
  return table;
}

// As Python's json.dumps writes the identity, keys sorted: what is hashed must be the same to the byte.
std::string identity_of(const StaticEmbedderOptions& options) {
  std::string text = R"({"kind": "static", "max_code_points": )" + std::to_string(options.max_code_points) +
                     R"(, "max_tokens": )" + std::to_string(options.max_tokens) + R"(, "normalize": )" +
                     (options.normalize ? "true" : "false") + R"(, "surface_features": [)";
  for (std::size_t k = 0; k < options.surface_features.size(); ++k) {
    text += (k == 0 ? "\"" : ", \"") + std::string(surface_feature_name(options.surface_features[k])) + "\"";
  }
  text += ']';
  if (options.tail_tokens > 0) text += R"(, "tail_tokens": )" + std::to_string(options.tail_tokens);
  return text + "}";
}

void add_content(Sha256& digest, std::span<const std::byte> content) {
  std::array<std::byte, 8> length{};
  for (std::size_t k = 0; k < length.size(); ++k) length[k] = static_cast<std::byte>(content.size() >> 8 * k & 0xFFU);
  digest.update(length);
  digest.update(content);
}

std::string fingerprint_of(const StaticEmbedder& embedder, std::string_view tokenizer_json) {
  Sha256 digest;
  const std::string identity = identity_of(embedder.options());
  digest.update(std::as_bytes(std::span(identity)));
  add_content(digest, std::as_bytes(std::span(tokenizer_json)));
  const TokenTable& table = embedder.table();
  add_content(digest,
              table.int8.empty() ? std::as_bytes(std::span(table.float32)) : std::as_bytes(std::span(table.int8)));
  if (!table.column_scale.empty()) add_content(digest, std::as_bytes(std::span(table.column_scale)));
  if (!table.rows.empty()) add_content(digest, std::as_bytes(std::span(table.rows)));
  if (!table.weights.empty()) add_content(digest, std::as_bytes(std::span(table.weights)));
  return "sha256:" + digest.finish();
}

void check_same(const Spec& spec, std::size_t dim, const std::string& fingerprint, const std::string& where) {
  const std::string expected[2] = {std::to_string(spec.dim), spec.fingerprint};
  const std::string found[2] = {std::to_string(dim), fingerprint};
  constexpr const char* kWhat[2] = {"dim", "fingerprint"};
  for (std::size_t k = 0; k < 2; ++k) {
    if (expected[k] == found[k]) continue;
    refuse(where + ": the router was trained with the embedder " + shown(spec.name) + " (" + kWhat[k] + " " +
           shown(expected[k]) + "), but the one at hand has " + kWhat[k] + " " + found[k] +
           ": its vectors mean something else. Copy or save the router again with its own embedder.");
  }
}

struct Built {
  std::shared_ptr<const StaticEmbedder> embedder;
  std::string_view tokenizer_json;
  bool reads_text;
};

Built build(const DirectoryContents& contents, const JsonValue& settings, bool with_features) {
  const auto tokenizer_json = contents.files.find(kTokenizerFile);
  if (tokenizer_json == contents.files.end())
    refuse(contents.path + ": a static embedder needs the file tokenizer.json");
  try {
    StaticEmbedderOptions options = read_options(settings, contents.path);
    if (!with_features) options.surface_features.clear();
    const TokenizerFile tokenizer = [&] {
      try {
        return read_tokenizer_json(tokenizer_json->second.bytes);
      } catch (const Error& error) {
        refuse(contents.path + ": " + error.what());
      }
    }();
    options.dropped_token = tokenizer.unknown_token;
    auto embedder = std::make_shared<const StaticEmbedder>(
        tokenizer.tokenizer, read_table(contents.tensors, contents.path), std::move(options), kernels(active_isa()));
    return {std::move(embedder), tokenizer_json->second.bytes, tokenizer.tokenizer != nullptr};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    refuse(contents.path + ": the static embedder's parts do not fit together: " + error.what());
  }
}

StoredEmbedder restored(const Built& built, const Spec& spec, const std::string& where) {
  check_same(spec, built.embedder->dim(), fingerprint_of(*built.embedder, built.tokenizer_json), where);
  if (built.reads_text) return {built.embedder, ""};
  return {nullptr,
          "the tokenizer of its embedder is none of BERT's WordPiece kind, which only the Python package reads"};
}

bool is_shipped_settings(const JsonValue& settings) {
  const JsonValue* const router = settings.find("router");
  const JsonValue* const features = settings.find("surface_features");
  return settings.has_exactly({"router", "surface_features"}) && router->text() != nullptr &&
         *router->text() == kShippedRouter && features->array() != nullptr && features->array()->empty();
}

StoredEmbedder restore_shipped(const DirectoryHandle& directory, const Spec& spec, const std::string& where) {
  if (!is_shipped_settings(*spec.settings)) {
    refuse(where + R"(: a shipped embedder has the settings {"router": "mf", "surface_features": []})");
  }
  const std::string advice =
      " This router shares the embedder of the router that ships, which is read from the directory mf beside it: keep "
      "the two side by side, or load and save this one with the Python package, which puts the table into it.";
  std::optional<DirectoryContents> owner;
  try {
    const DirectoryLayout& layout = router_layout();
    owner = read_current(
        [&] { return DirectoryHandle(directory, std::string("../") + kShippedRouter, layout.manifest_file); },
        [&](const DirectoryHandle& beside) { return read_directory(beside, layout); });
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    throw Error(ErrorCode::kNotFound, error.what() + advice);
  }
  const JsonValue& entry = owner->entry("embedder");
  const JsonValue* const kind = entry.find("kind");
  if (kind == nullptr || kind->text() == nullptr || *kind->text() != "static") {
    refuse(owner->path + " holds no static embedder." + advice);
  }
  const Spec own = read_spec(entry, owner->path);
  return restored(build(*owner, *own.settings, false), spec, where);
}

}  // namespace

StoredEmbedder restore_embedder(const DirectoryHandle& directory, const DirectoryContents& contents) {
  const JsonValue& entry = contents.entry("embedder");
  if (entry.is_null()) return {nullptr, "it holds no embedder"};
  const Spec spec = read_spec(entry, contents.path);
  if (spec.kind == "static") return restored(build(contents, *spec.settings, true), spec, contents.path);
  if (spec.kind == "shipped") return restore_shipped(directory, spec, contents.path);
  return {nullptr, "its embedder " + shown(spec.name) + " is of kind " + spec.kind + ", which its owner runs"};
}

}  // namespace routellm_fast
