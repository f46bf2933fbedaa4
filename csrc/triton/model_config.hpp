#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "directory/json.hpp"

namespace routellm_fast::triton {

inline constexpr const char* kPrompt = "PROMPT";
inline constexpr const char* kEmbedding = "EMBEDDING";
inline constexpr const char* kThreshold = "THRESHOLD";
inline constexpr const char* kWinRate = "WIN_RATE";
inline constexpr const char* kIsStrong = "IS_STRONG";
inline constexpr const char* kModel = "MODEL";

/// The largest batch of a model whose configuration leaves everything to its router.
inline constexpr std::int64_t kDefaultMaxBatchSize = 256;

/// The parameters of a model's configuration. Empty text means that a parameter is not given.
struct Parameters {
  std::string router_directory;
  std::string directory_digest;
  std::optional<double> default_threshold;
  std::optional<double> strong_share;
  std::string strong_model;
  std::string weak_model;
  std::uint32_t threads = 0;
};

/// A model's configuration as Triton hands it over.
class ModelConfig {
 public:
  /// Throws Failure where the text is no JSON object.
  explicit ModelConfig(std::string_view json);

  /// Throws Failure naming the parameter: an unknown one, one that is no string, a number out of range.
  [[nodiscard]] Parameters parameters() const;

  /// The largest batch. Zero: requests come one by one, without a batch dimension.
  [[nodiscard]] std::int64_t max_batch_size() const;

  /// Adds the inputs and outputs of the router if the configuration has none. If it had neither, also adds the batch
  /// size (unless written) and dynamic batching; a configuration with inputs or outputs keeps its batching. Returns
  /// whether anything was added.
  bool complete(bool reads_text, std::size_t dim);

  /// Throws Failure naming the first input or output that this backend does not have, or has in another type or shape.
  void check(bool reads_text, std::size_t dim) const;

  [[nodiscard]] std::string to_json() const;

 private:
  [[nodiscard]] const JsonValue* find(std::string_view name) const noexcept;

  JsonValue given_;
  JsonValue::Object added_;  // members beside those given, or in their place
};

}  // namespace routellm_fast::triton
