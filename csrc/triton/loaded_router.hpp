#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "routellm_fast.h"

namespace routellm_fast::triton {

/// Whether a value may be a threshold or a share; NaN may not.
inline bool is_share(double value) noexcept { return value >= 0.0 && value <= 1.0; }

/// The threshold of a row for which no decision is asked, only the win rate.
inline constexpr double kNoThreshold = -1.0;

/// Prompts or embeddings of several requests, row by row, each with the threshold that holds for it or kNoThreshold.
/// `texts` is null where `embeddings` holds the rows: count rows of dim values.
struct Rows {
  const char* const* texts = nullptr;
  const std::size_t* bytes = nullptr;
  const float* embeddings = nullptr;
  std::size_t dim = 0;
  const double* thresholds = nullptr;
  std::size_t count = 0;

  [[nodiscard]] Rows slice(std::size_t begin, std::size_t length) const;
};

/// A router behind the C interface, shared by all instances of a model. Immutable and thread-safe.
class LoadedRouter {
 public:
  /// Loads a directory. Throws Failure with the core's error text if that fails. Empty names of models: the stored
  /// ones. digest: the directory's, empty for none to check. threads: the most threads for a batch, 0 for one.
  LoadedRouter(const std::string& directory, const std::string& digest, const std::string& strong_model,
               const std::string& weak_model, std::uint32_t threads);

  [[nodiscard]] std::string kind() const { return routellm_kind(router_.get()); }
  [[nodiscard]] std::string digest() const { return routellm_digest(router_.get()); }
  [[nodiscard]] const std::string& strong_model() const noexcept { return strong_model_; }
  [[nodiscard]] const std::string& weak_model() const noexcept { return weak_model_; }
  [[nodiscard]] std::size_t dim() const noexcept { return routellm_dim(router_.get()); }
  [[nodiscard]] bool reads_text() const noexcept { return routellm_reads_text(router_.get()) != 0; }

  /// The calibrated threshold of a share. Throws Failure where the router has no calibration.
  [[nodiscard]] double threshold_for(double strong_share) const;

  /// Scores all rows, and decides those that have a threshold; is_strong of the others is 0. Throws Failure if any row
  /// cannot be scored; the values of the outputs are then undefined.
  void route(const Rows& rows, float* win_rates, std::uint8_t* is_strong) const;

 private:
  struct Free {
    void operator()(routellm_router* router) const noexcept { routellm_free(router); }
  };

  void win_rates_of(const Rows& rows, float* win_rates) const;

  std::unique_ptr<routellm_router, Free> router_;
  bool thresholds_change_win_rates_ = true;
  std::string strong_model_;
  std::string weak_model_;
};

}  // namespace routellm_fast::triton
