#include "score/linear_scorer.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

void check_weights(std::span<const float> weights, const KernelTable& kernels) {
  if (weights.empty()) throw Error(ErrorCode::kInvalidArgument, "a linear scorer needs at least one weight.");
  const std::size_t bad = kernels.first_nonfinite_f32(weights.data(), weights.size());
  if (bad < weights.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                "weight " + std::to_string(bad) + " is " + std::to_string(weights[bad]) + ": weights must be finite.");
  }
}

[[noreturn]] void throw_nonfinite(std::size_t row, std::size_t column, float value) {
  throw Error(ErrorCode::kInvalidEmbedding, "embedding " + std::to_string(row) + " has " + std::to_string(value) +
                                                " in column " + std::to_string(column) +
                                                ": every value must be finite. Look at the embedder that made it.");
}

void check_finite(const float* embedding, std::size_t dim, std::size_t row, const KernelTable& kernels) {
  const std::size_t bad = kernels.first_nonfinite_f32(embedding, dim);
  if (bad < dim) throw_nonfinite(row, bad, embedding[bad]);
}

// Finite values whose products overflow float32: float64 has the room.
float wide_dot(const float* weights, const float* embedding, std::size_t dim) {
  double wide = 0.0;
  for (std::size_t d = 0; d < dim; ++d) wide += static_cast<double>(weights[d]) * static_cast<double>(embedding[d]);
  return static_cast<float>(wide);
}

}  // namespace

float sigmoid(float logit) noexcept { return 1.0F / (1.0F + std::exp(-logit)); }

LinearScorer::LinearScorer(std::span<const float> weights, const KernelTable& kernels)
    : weights_(weights.begin(), weights.end()), kernels_(&kernels) {
  check_weights(weights, kernels);
}

float LinearScorer::checked(float logit, const float* embedding, std::size_t row) const {
  if (std::isfinite(logit)) return logit;
  check_finite(embedding, dim(), row, *kernels_);
  return wide_dot(weights_.data(), embedding, dim());
}

float LinearScorer::win_rate(const float* embedding) const {
  return sigmoid(checked(kernels_->dot_f32(embedding, weights_.data(), dim()), embedding, 0));
}

void LinearScorer::win_rates(const float* embeddings, std::size_t count, std::size_t stride, float* out) const {
  kernels_->matvec_f32(embeddings, count, stride, dim(), weights_.data(), out);
  for (std::size_t r = 0; r < count; ++r) out[r] = sigmoid(checked(out[r], embeddings + r * stride, r));
}

LinearModels::LinearModels(std::span<const float> rows, std::size_t models, const KernelTable& kernels)
    : models_(models),
      dim_(models == 0 ? 0 : rows.size() / models),
      rows_(rows.begin(), rows.end()),
      kernels_(&kernels) {
  check_weights(rows, kernels);
  if (models == 0 || rows.size() % models != 0) {
    throw Error(ErrorCode::kInvalidArgument, std::to_string(rows.size()) + " weights do not make " +
                                                 std::to_string(models) + " rows of one length.");
  }
}

void LinearModels::logits(const float* embeddings, std::size_t count, std::size_t stride, float* out) const {
  for (std::size_t r = 0; r < count; ++r) {
    const float* embedding = embeddings + r * stride;
    check_finite(embedding, dim_, r, *kernels_);
    float* const logits = out + r * models_;
    kernels_->matvec_f32(rows_.data(), models_, dim_, dim_, embedding, logits);
    for (std::size_t m = 0; m < models_; ++m) {
      if (!std::isfinite(logits[m])) logits[m] = wide_dot(rows_.data() + m * dim_, embedding, dim_);
    }
  }
}

TextScorer::TextScorer(std::shared_ptr<const StaticEmbedder> embedder, std::span<const float> weights)
    : embedder_(std::move(embedder)), scorer_(weights, embedder_->kernels()) {
  if (weights.size() != embedder_->dim()) {
    throw Error(ErrorCode::kInvalidArgument, "a scorer of " + std::to_string(weights.size()) +
                                                 " dimensions does not fit an embedder of " +
                                                 std::to_string(embedder_->dim()) + ".");
  }
  if (embedder_->options().normalize) return;
  std::vector<float> scores = embedder_->token_scores(weights);
  // Huge weights can make a token's score overflow float32; the embedding itself then still has a finite win rate.
  if (embedder_->kernels().first_nonfinite_f32(scores.data(), scores.size()) == scores.size()) {
    token_scores_ = std::move(scores);
  }
}

float TextScorer::win_rate(const Excerpt& text, bool* is_whole) const {
  if (!is_folded()) {
    thread_local AlignedVector<float> embedding;
    if (embedding.size() < embedder_->dim()) embedding.resize(embedder_->dim());
    const bool is_all = embedder_->embed(text, embedding.data());
    if (is_whole != nullptr) *is_whole = is_all;
    return scorer_.win_rate(embedding.data());
  }
  const StaticEmbedder::Tokens tokens = embedder_->tokenize(text);
  if (is_whole != nullptr) *is_whole = tokens.is_whole;
  double logit = 0.0;
  for (const std::uint32_t id : tokens.ids) logit += token_scores_[id];
  if (!tokens.ids.empty()) logit /= static_cast<double>(tokens.ids.size());

  const std::span<const SurfaceFeature> features = embedder_->options().surface_features;
  const std::span<const float> weights = scorer_.weights().subspan(embedder_->token_dim());
  thread_local std::vector<float> values;
  if (values.size() < features.size()) values.resize(features.size());
  write_surface_features(tokens.read, tokens.count, features, values.data());
  for (std::size_t k = 0; k < features.size(); ++k)
    logit += static_cast<double>(weights[k]) * static_cast<double>(values[k]);
  return sigmoid(static_cast<float>(logit));
}

}  // namespace routellm_fast
