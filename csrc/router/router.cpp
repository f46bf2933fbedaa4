#include "router/router.hpp"

#include <algorithm>
#include <utility>

#include "base/aligned.hpp"
#include "base/error.hpp"
#include "directory/reader.hpp"
#include "router/parts.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kTextsAtOnce = 512;  // a thread: bounds the memory for embeddings, whatever the batch

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }

// Names may hold lone surrogates, which JSON can write and UTF-8 cannot.
std::string valid_name(const std::string& name) {
  std::string scratch;
  return std::string(valid_utf8(name, name.size(), scratch).text);
}

// In C a name ends with its first zero character: it would be another name there.
void refuse_zero(const std::string& name, const std::string& where) {
  if (name.find('\0') != std::string::npos) {
    refuse(where + ": the model name \"" + shown(name) + "\" has a zero character (U+0000)");
  }
}

std::string name_at(const JsonValue& pair, std::string_view key, const std::string& given, const std::string& where) {
  if (!given.empty()) return given;
  const JsonValue& stored = *pair.find(key);
  if (stored.text() == nullptr || stored.text()->empty()) refuse(where + ": a model pair is two names");
  refuse_zero(*stored.text(), where);
  return valid_name(*stored.text());
}

std::string list_of(const Shape& shape) {
  std::string text = "(";
  for (std::size_t k = 0; k < shape.size(); ++k) {
    text += (k == 0 ? "" : ", ") + (shape[k] == kAnyCount ? "n" : std::to_string(shape[k]));
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

Router::Router(const DirectoryContents& contents, StoredEmbedder embedder, const RouterOptions& options,
               const std::vector<std::string>& model_names)
    : kind_(*contents.entry("kind").text()),
      digest_(contents.manifest_sha256),
      embedder_(std::move(embedder.embedder)),
      why_no_text_(std::move(embedder.why_no_text)),
      threads_(std::max<std::size_t>(options.threads, 1)) {
  const JsonValue& pair = contents.entry("model_pair");
  if (!pair.has_exactly({"strong", "weak"})) refuse(contents.path + ": model_pair holds strong and weak");
  model_pair_ = {name_at(pair, "strong", options.strong_model, contents.path),
                 name_at(pair, "weak", options.weak_model, contents.path)};
  if (model_pair_.strong == model_pair_.weak) {
    throw Error(ErrorCode::kInvalidArgument, "the strong and the weak model are both \"" + shown(model_pair_.strong) +
                                                 "\": there is nothing to choose between. Name two models.");
  }
  std::ranges::transform(model_names, std::back_inserter(model_names_), valid_name);
  if (const JsonValue& calibration = contents.entry("calibration"); !calibration.is_null()) {
    calibration_.emplace(calibration, contents.path);
  }
}

double Router::threshold_for(double strong_share) const {
  if (calibration_) return calibration_->threshold_for(strong_share);
  check_share(strong_share, "strong share");
  throw Error(ErrorCode::kInvalidArgument,
              "this router has no calibration: give a threshold, or calibrate it on prompts like your traffic.");
}

void Router::check_reads_text() const {
  if (reads_text()) return;
  throw Error(ErrorCode::kNoEmbedder, "this " + kind_ + " router reads no text: " + why_no_text_ +
                                          ". Give it embeddings of " + std::to_string(dim()) + " values.");
}

Excerpt Router::readable(const TextBatch& texts, std::size_t index) const {
  const Excerpt& text = texts.texts[index];
  if (texts.is_utf8) return text;
  thread_local std::string scratch;
  return read_of(text.head, limits(), scratch);
}

const float* Router::embed(const TextBatch& texts, bool* is_whole) const {
  thread_local AlignedVector<float> embeddings;
  const std::size_t width = embedder_->dim();
  if (embeddings.size() < texts.texts.size() * width) embeddings.resize(texts.texts.size() * width);
  float* row = embeddings.data();
  for (std::size_t i = 0; i < texts.texts.size(); ++i, row += width) {
    const bool is_all = embedder_->embed(readable(texts, i), row);
    if (is_whole != nullptr) is_whole[i] = is_all;
  }
  return embeddings.data();
}

void Router::win_rates(const TextBatch& texts, std::optional<double> threshold, float* out, bool* is_whole) const {
  check_reads_text();
  const std::size_t at_once = kTextsAtOnce * threads_;
  for (std::span<const Excerpt> rest = texts.texts; !rest.empty();) {
    const std::size_t count = std::min(at_once, rest.size());
    score_texts({.texts = rest.first(count), .is_utf8 = texts.is_utf8}, threshold, out, is_whole);
    rest = rest.subspan(count);
    out += count;
    if (is_whole != nullptr) is_whole += count;
  }
}

void Router::win_rates(const float* embeddings, std::size_t count, Source source, std::optional<double> threshold,
                       float* out) const {
  if (count > 0) score_embeddings(embeddings, count, source, threshold, out);
}

void Router::rank(const TextBatch& texts, float* scores) const {
  check_reads_text();
  score_models(embed(texts, nullptr), texts.texts.size(), Source::kText, scores);
}

void Router::rank(const float* embeddings, std::size_t count, float* scores) const {
  if (count > 0) score_models(embeddings, count, Source::kCaller, scores);
}

ScoringPair read_scoring_pair(const JsonValue& entry, const std::vector<std::string>& names, const std::string& where) {
  if (!entry.has_exactly({"strong", "weak"})) refuse(where + ": scoring_pair holds strong and weak");
  const auto index = [&](std::string_view key) {
    const std::string* const name = entry.find(key)->text();
    const auto found = name == nullptr ? names.end() : std::ranges::find(names, *name);
    if (found == names.end()) {
      refuse(where + ": the " + std::string(key) + " model of the scoring pair" +
             (name == nullptr ? "" : ", " + shown(*name) + ",") + " is none of the " + std::to_string(names.size()) +
             " models that the router knows");
    }
    return static_cast<std::size_t>(found - names.begin());
  };
  const ScoringPair found{index("strong"), index("weak")};
  if (found.strong == found.weak) {
    refuse(where + ": the scoring pair is " + shown(names[found.strong]) +
           " twice: the win rate of a model against itself says nothing");
  }
  return found;
}

std::vector<std::string> read_names(const JsonValue& entry, const std::string& where) {
  std::vector<std::string> names;
  if (entry.array() == nullptr) refuse(where + ": models must be a list of names, found " + entry.type_name());
  for (const JsonValue& name : *entry.array()) {
    if (name.text() == nullptr)
      refuse(where + ": models must be a list of names, found " + name.type_name() + " in it");
    refuse_zero(*name.text(), where);
    names.push_back(*name.text());
  }
  std::vector<std::string> sorted = names;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) refuse(where + ": model names must be distinct");
  return names;
}

const Tensor& required(const TensorMap& tensors, const std::string& name, DataType type, const Shape& shape,
                       const std::string& where) {
  const auto found = tensors.find(name);
  const auto same = [](std::uint64_t expected, std::uint64_t count) {
    return expected == kAnyCount || expected == count;
  };
  const bool fits =
      found != tensors.end() && found->second.type == type && std::ranges::equal(shape, found->second.shape, same);
  if (!fits) {
    refuse(where + ": the router needs " + name + ", " + name_of(type) + " " + list_of(shape) + "; found " +
           (found == tensors.end() ? "nothing" : describe(found->second.type, found->second.shape)));
  }
  return found->second;
}

void check_embedder(const StoredEmbedder& embedder, std::size_t dim, const std::string& what,
                    const std::string& where) {
  if (embedder.embedder == nullptr || embedder.embedder->dim() == dim) return;
  throw Error(ErrorCode::kEmbedderMismatch, where + ": " + what + " " + std::to_string(dim) +
                                                " dimensions, the embedder makes " +
                                                std::to_string(embedder.embedder->dim()));
}

std::shared_ptr<const Router> make_router(const DirectoryContents& contents, StoredEmbedder embedder,
                                          const RouterOptions& options) {
  const std::string& kind = *contents.entry("kind").text();
  try {
    if (kind == "mf") return make_matrix_factorization(contents, std::move(embedder), options);
    if (kind == "sw_ranking") return make_similarity_weighted(contents, std::move(embedder), options);
    refuse(contents.path + " holds a router of kind \"" + shown(kind) +
           "\"; this library runs mf and sw_ranking. Load it with the Python package, or serve it with Triton.");
  } catch (const Error& error) {
    if (contents.is_directory && error.code() == ErrorCode::kInvalidArgument) {
      refuse(contents.path + ": the " + kind + " router's parts do not fit together: " + error.what());
    }
    if (!contents.is_directory && error.code() == ErrorCode::kBadDirectory) {
      throw Error(ErrorCode::kInvalidArgument, error.what());
    }
    throw;
  }
}

std::shared_ptr<const Router> load_router(const std::string& directory, const RouterOptions& options) {
  return read_current(
      [&] { return DirectoryHandle(directory, router_layout().manifest_file); },
      [&](const DirectoryHandle& handle) {
        const DirectoryContents contents = read_directory(handle, router_layout(), allocate_file, options.digest);
        const std::string& kind = *contents.entry("kind").text();
        // Of a kind that the core does not run, the embedder may be another's as well.
        const bool is_own = kind == "mf" || kind == "sw_ranking";
        return make_router(contents, is_own ? restore_embedder(handle, contents) : StoredEmbedder{}, options);
      });
}

}  // namespace routellm_fast
