#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "directory/calibration_table.hpp"
#include "directory/contents.hpp"
#include "embed/stored_embedder.hpp"

namespace routellm_fast {

struct RouterOptions {
  std::string strong_model;  // empty: as stored
  std::string weak_model;
  std::size_t threads = 1;            // at most, for a batch
  std::optional<std::string> digest;  // what the directory's must be; see read_directory
};

/// A pair of models, by name.
struct NamePair {
  std::string strong;
  std::string weak;
};

/// Texts, which their owner keeps.
struct TextBatch {
  std::span<const Excerpt> texts;
  bool is_utf8 = false;  // known to be valid UTF-8, cut to what is read; else they are whole texts of any bytes
};

/// Where an embedding comes from: a text may have one of zeros, a caller's is refused.
enum class Source : bool { kCaller, kText };

/// What routes: the only thing that scores, whatever language asks. Immutable and thread-safe; win rates depend neither
/// on the batch nor on the number of threads. Calls that score allocate nothing after a thread's first, but for more
/// threads than one.
class Router {
 public:
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  virtual ~Router() = default;

  [[nodiscard]] const std::string& kind() const noexcept { return kind_; }
  /// SHA-256 of the directory's router.json; empty for a router that was made in memory.
  [[nodiscard]] const std::string& digest() const noexcept { return digest_; }
  [[nodiscard]] const NamePair& model_pair() const noexcept { return model_pair_; }
  [[nodiscard]] const std::vector<std::string>& model_names() const noexcept { return model_names_; }
  [[nodiscard]] bool reads_text() const noexcept { return embedder_ != nullptr; }
  /// How much of a text is read.
  [[nodiscard]] ReadLimits limits() const noexcept { return embedder_ == nullptr ? ReadLimits{} : embedder_->limits(); }
  [[nodiscard]] virtual std::size_t dim() const noexcept = 0;
  /// About how many multiply-adds an embedding's win rate takes, for callers that hold a lock meanwhile.
  [[nodiscard]] virtual std::size_t work_per_score() const noexcept = 0;

  /// Throws Error(kInvalidArgument) where there is no calibration, and for a share outside [0, 1].
  [[nodiscard]] double threshold_for(double strong_share) const;

  /// Write a win rate for each text, or for each of `count` embeddings. Where they are held against a threshold, a win
  /// rate so near to it that the router's stated error could change the decision is computed again, exactly. Where
  /// `is_whole` is not null, tell of each text whether all of it was read. Texts throw Error(kNoEmbedder) where
  /// reads_text() is false, embeddings Error(kInvalidEmbedding), naming the row.
  void win_rates(const TextBatch& texts, std::optional<double> threshold, float* out, bool* is_whole = nullptr) const;
  void win_rates(const float* embeddings, std::size_t count, Source source, std::optional<double> threshold,
                 float* out) const;

  /// Writes win rates without the error of a compressed form. Throws Error(kInvalidEmbedding), naming the row.
  virtual void exact_win_rates(const float* embeddings, std::size_t count, Source source, double* out) const = 0;

  /// Write a score for each of model_names(), higher is better: of each text, or of each of `count` embeddings.
  void rank(const TextBatch& texts, float* scores) const;
  void rank(const float* embeddings, std::size_t count, float* scores) const;

 protected:
  /// What all kinds share. Throws Error(kBadDirectory).
  Router(const DirectoryContents& contents, StoredEmbedder embedder, const RouterOptions& options,
         const std::vector<std::string>& model_names);

  [[nodiscard]] const std::shared_ptr<const StaticEmbedder>& embedder() const noexcept { return embedder_; }
  [[nodiscard]] std::size_t threads() const noexcept { return threads_; }
  /// What is read of a text of the batch, as valid UTF-8; where the batch is not, in memory of the thread until its
  /// next call.
  [[nodiscard]] Excerpt readable(const TextBatch& texts, std::size_t index) const;
  /// The embeddings of texts, in memory of the thread until its next call; is_whole as for win_rates.
  [[nodiscard]] const float* embed(const TextBatch& texts, bool* is_whole) const;

 private:
  virtual void score_texts(const TextBatch& texts, std::optional<double> threshold, float* out,
                           bool* is_whole) const = 0;
  virtual void score_embeddings(const float* embeddings, std::size_t count, Source source,
                                std::optional<double> threshold, float* out) const = 0;
  virtual void score_models(const float* embeddings, std::size_t count, Source source, float* scores) const = 0;

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

/// Makes a router of the kinds that the core runs, mf and sw_ranking, of what was read from a directory or given from
/// memory. Throws Error: kBadDirectory where parts are missing or do not fit together, and kInvalidArgument instead
/// where they were given from memory; kEmbedderMismatch for an embedder of another dimension.
[[nodiscard]] std::shared_ptr<const Router> make_router(const DirectoryContents& contents, StoredEmbedder embedder,
                                                        const RouterOptions& options);

/// Reads a router directory and makes the router. Throws Error: kNotFound, kNewerVersion, kDamaged, kBadDirectory.
[[nodiscard]] std::shared_ptr<const Router> load_router(const std::string& directory, const RouterOptions& options);

}  // namespace routellm_fast
