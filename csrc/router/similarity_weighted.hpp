#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/router.hpp"
#include "score/similarity_scorer.hpp"

namespace routellm_fast {

/// A router of kind sw_ranking, with what those ask of it who build one and measure its error.
class SimilarityWeightedRouter final : public Router {
 public:
  /// The parts of a router, checked. `compressed` is null for float32.
  struct Parts {
    std::vector<std::string> models;
    std::vector<std::uint16_t> tiers;  // of each model
    std::shared_ptr<const TierRefit> refit;
    std::shared_ptr<const CellSums> bank;
    std::size_t row_count;
    std::shared_ptr<const CellSums> compressed;
    double error_bound;
  };

  SimilarityWeightedRouter(const DirectoryContents& contents, StoredEmbedder stored, const RouterOptions& options,
                           Parts parts);

  [[nodiscard]] std::size_t dim() const noexcept override { return parts_.bank->dim(); }
  [[nodiscard]] std::size_t work_per_score() const noexcept override;
  [[nodiscard]] std::size_t num_tiers() const noexcept { return parts_.refit->num_tiers(); }

  void exact_win_rates(const float* embeddings, std::size_t count, Source source, double* out) const override;
  /// The win rates that embeddings of callers get, before they are rounded to float32.
  void wide_win_rates(const float* embeddings, std::size_t count, double* out) const;
  /// Writes count x num_tiers() ratings; see TierRefit::ratings.
  void tier_ratings(const float* embeddings, std::size_t count, double* out) const;
  /// Writes for each of `count` embeddings, whose largest values are near 1, its similarity to the battle most like it,
  /// up to the embedding's length, as the precision finds it.
  void largest_similarities(const float* embeddings, std::size_t count, double* out) const;

 private:
  /// Does work that reads mapped files, and makes sure that they are as they were when they were loaded, before and
  /// after. Throws Error(kDamaged).
  template <typename Work>
  void on_unchanged_files(const Work& work) const;
  void check_files() const;
  [[nodiscard]] std::size_t workers(std::size_t count) const noexcept;
  void score_texts(const TextBatch& texts, std::optional<double> threshold, float* out, bool* is_whole) const override;
  void score_embeddings(const float* embeddings, std::size_t count, Source source, std::optional<double> threshold,
                        float* out) const override;
  void score_models(const float* embeddings, std::size_t count, Source source, float* scores) const override;

  Parts parts_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  SimilarityScorer exact_;
  SimilarityScorer scorer_;
};

}  // namespace routellm_fast
