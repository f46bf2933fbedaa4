#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "directory/calibration_table.hpp"
#include "directory/router_directory.hpp"
#include "embed/stored_embedder.hpp"

namespace routellm_fast {

struct RouterOptions {
  std::string strong_model;  // empty: as stored
  std::string weak_model;
  std::size_t threads = 1;  // at most, for a batch
};

/// A pair of models, by name.
struct NamePair {
  std::string strong;
  std::string weak;
};

/// Texts of any bytes, which their owner keeps.
struct TextBatch {
  const char* const* texts;
  const std::size_t* bytes;
  std::size_t count;

  [[nodiscard]] std::string_view operator[](std::size_t i) const { return {bytes[i] == 0 ? "" : texts[i], bytes[i]}; }
  [[nodiscard]] TextBatch part(std::size_t first, std::size_t size) const {
    return {texts + first, bytes + first, size};
  }
};

/// A router that was read from a directory. Immutable and thread-safe; win rates depend neither on the batch nor on the
/// number of threads. Texts are UTF-8, invalid sequences read as U+FFFD.
class Router {
 public:
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  virtual ~Router() = default;

  [[nodiscard]] const std::string& kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& digest() const noexcept { return digest_; }
  [[nodiscard]] const NamePair& model_pair() const noexcept { return model_pair_; }
  [[nodiscard]] const std::vector<std::string>& model_names() const noexcept { return model_names_; }
  [[nodiscard]] bool reads_text() const noexcept { return embedder_ != nullptr; }
  [[nodiscard]] virtual std::size_t dim() const noexcept = 0;

  /// Throws Error(kInvalidArgument) where there is no calibration, and for a share outside [0, 1].
  [[nodiscard]] double threshold_for(double strong_share) const;

  /// Write a win rate for each text, or for each of `count` embeddings. Where they are held against a threshold, a win
  /// rate so near to it that the router's stated error could change the decision is computed again, exactly. Texts
  /// throw Error(kNoEmbedder) where reads_text() is false, embeddings Error(kInvalidEmbedding), naming the row.
  void win_rates(const TextBatch& texts, std::optional<double> threshold, float* out) const;
  void win_rates(const float* embeddings, std::size_t count, std::optional<double> threshold, float* out) const;

  /// Write a score for each of model_names(), higher is better.
  void rank(std::string_view text, float* scores) const;
  void rank(const float* embedding, float* scores) const;

 protected:
  /// Where an embedding comes from: a text may have one of zeros, a caller's is refused.
  enum class Source : bool { kCaller, kText };

  /// What all kinds share. Throws Error(kBadDirectory).
  Router(const DirectoryContents& contents, StoredEmbedder embedder, const RouterOptions& options,
         const std::vector<std::string>& model_names);

  [[nodiscard]] const std::shared_ptr<const StaticEmbedder>& embedder() const noexcept { return embedder_; }
  [[nodiscard]] std::size_t threads() const noexcept { return threads_; }
  [[nodiscard]] std::string_view readable(std::string_view text) const;
  /// The embeddings of texts, in memory of the thread until its next call.
  [[nodiscard]] const float* embed(const TextBatch& texts) const;

 private:
  virtual void score_texts(const TextBatch& texts, std::optional<double> threshold, float* out) const = 0;
  virtual void score_embeddings(const float* embeddings, std::size_t count, std::optional<double> threshold,
                                float* out) const = 0;
  virtual void score_models(const float* embedding, Source source, float* scores) const = 0;

  void check_reads_text() const;

  std::string kind_;
  std::string digest_;
  NamePair model_pair_;
  std::vector<std::string> model_names_;
  std::shared_ptr<const StaticEmbedder> embedder_;
  std::string why_no_text_;
  std::optional<CalibrationTable> calibration_;
  std::size_t threads_;
};

/// Reads a router directory of the kinds that the core runs: mf and sw_ranking. Throws Error: kNotFound, kBadDirectory.
[[nodiscard]] std::unique_ptr<const Router> load_router(const std::string& directory, const RouterOptions& options);

// --- for the kinds --------------------------------------------------------------------------------------------------

/// The pair whose win rate is computed, as indices of `names`. Throws Error(kBadDirectory).
struct ScoringPair {
  std::size_t strong;
  std::size_t weak;
};
[[nodiscard]] ScoringPair read_scoring_pair(const JsonValue& entry, const std::vector<std::string>& names,
                                            const std::string& where);

/// A list of distinct names. Throws Error(kBadDirectory).
[[nodiscard]] std::vector<std::string> read_names(const JsonValue& entry, const std::string& where);

/// A tensor of this type and shape, where kAnyCount stands for any. Throws Error(kBadDirectory) for another, or none.
inline constexpr std::uint64_t kAnyCount = ~std::uint64_t{0};
[[nodiscard]] const Tensor& required(const TensorMap& tensors, const std::string& name, DataType type,
                                     const Shape& shape, const std::string& where);

[[nodiscard]] std::unique_ptr<const Router> restore_matrix_factorization(const DirectoryContents& contents,
                                                                         StoredEmbedder embedder,
                                                                         const RouterOptions& options);
[[nodiscard]] std::unique_ptr<const Router> restore_similarity_weighted(const DirectoryContents& contents,
                                                                        StoredEmbedder embedder,
                                                                        const RouterOptions& options);

}  // namespace routellm_fast
