// What the kinds share when they check their settings and tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "directory/contents.hpp"
#include "embed/stored_embedder.hpp"

namespace routellm_fast {

class Router;
struct RouterOptions;

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

/// Throws Error(kEmbedderMismatch) for an embedder of another dimension than `dim`; `what` says what has that one.
void check_embedder(const StoredEmbedder& embedder, std::size_t dim, const std::string& what, const std::string& where);

[[nodiscard]] std::shared_ptr<const Router> make_matrix_factorization(const DirectoryContents& contents,
                                                                      StoredEmbedder embedder,
                                                                      const RouterOptions& options);
[[nodiscard]] std::shared_ptr<const Router> make_similarity_weighted(const DirectoryContents& contents,
                                                                     StoredEmbedder embedder,
                                                                     const RouterOptions& options);

}  // namespace routellm_fast
