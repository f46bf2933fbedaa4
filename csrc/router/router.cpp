#include "router/router.hpp"

#include <algorithm>
#include <utility>

#include "base/aligned.hpp"
#include "base/error.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kTextsAtOnce = 512;  // a thread: bounds the memory for embeddings, whatever the batch

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }

// Names may hold lone surrogates, which JSON can write and UTF-8 cannot.
std::string valid_name(const std::string& name) {
  std::string scratch;
  return std::string(valid_utf8(name, name.size(), scratch));
}

std::string name_at(const JsonValue& pair, std::string_view key, const std::string& given, const std::string& where) {
  if (!given.empty()) return given;
  const JsonValue& stored = *pair.find(key);
  if (stored.text() == nullptr || stored.text()->empty()) refuse(where + ": a model pair is two names");
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

std::string_view Router::readable(std::string_view text) const {
  thread_local std::string scratch;
  return valid_utf8(text, embedder_->options().max_code_points, scratch);
}

const float* Router::embed(const TextBatch& texts) const {
  thread_local AlignedVector<float> embeddings;
  const std::size_t width = embedder_->dim();
  if (embeddings.size() < texts.count * width) embeddings.resize(texts.count * width);
  for (std::size_t i = 0; i < texts.count; ++i) {
    embedder_->embed(readable(texts[i]), embeddings.data() + i * width);
  }
  return embeddings.data();
}

void Router::win_rates(const TextBatch& texts, std::optional<double> threshold, float* out) const {
  check_reads_text();
  const std::size_t at_once = kTextsAtOnce * threads_;
  for (std::size_t first = 0; first < texts.count; first += at_once) {
    score_texts(texts.part(first, std::min(at_once, texts.count - first)), threshold, out + first);
  }
}

void Router::win_rates(const float* embeddings, std::size_t count, std::optional<double> threshold, float* out) const {
  if (count > 0) score_embeddings(embeddings, count, threshold, out);
}

void Router::rank(std::string_view text, float* scores) const {
  check_reads_text();
  const char* const data = text.data();
  const std::size_t bytes = text.size();
  score_models(embed({&data, &bytes, 1}), Source::kText, scores);
}

void Router::rank(const float* embedding, float* scores) const { score_models(embedding, Source::kCaller, scores); }

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
  return {index("strong"), index("weak")};
}

std::vector<std::string> read_names(const JsonValue& entry, const std::string& where) {
  std::vector<std::string> names;
  if (entry.array() == nullptr) refuse(where + ": models must be a list of names, found " + entry.type_name());
  for (const JsonValue& name : *entry.array()) {
    if (name.text() == nullptr)
      refuse(where + ": models must be a list of names, found " + name.type_name() + " in it");
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

std::unique_ptr<const Router> load_router(const std::string& directory, const RouterOptions& options) {
  const DirectoryHandle handle(directory);
  const DirectoryContents contents = read_router_directory(handle);
  const std::string& kind = *contents.entry("kind").text();
  if (kind != "mf" && kind != "sw_ranking") {
    refuse(directory + " holds a router of kind \"" + shown(kind) +
           "\"; this library runs mf and sw_ranking. Load it with the Python package, or serve it with Triton.");
  }
  StoredEmbedder embedder = restore_embedder(handle, contents);
  try {
    return kind == "mf" ? restore_matrix_factorization(contents, std::move(embedder), options)
                        : restore_similarity_weighted(contents, std::move(embedder), options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    refuse(directory + ": the " + kind + " router's parts do not fit together: " + error.what());
  }
}

}  // namespace routellm_fast
