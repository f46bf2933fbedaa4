// Routers of kind mf: a vector for each model, folded to one for the pair.
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "router/router.hpp"
#include "score/linear_scorer.hpp"
#include "score/model_folding.hpp"

namespace routellm_fast {
namespace {

class MatrixFactorizationRouter final : public Router {
 public:
  MatrixFactorizationRouter(const DirectoryContents& contents, StoredEmbedder stored, const RouterOptions& options,
                            const std::vector<std::string>& names, const FactorWeights& weights, ScoringPair pair)
      : Router(contents, std::move(stored), options, names),
        scorer_(fold_pair(weights, pair.strong, pair.weak), kernels(active_isa())) {
    if (embedder() != nullptr) text_scorer_ = std::make_unique<const TextScorer>(embedder(), scorer_.weights());
    fold_all(weights, names.size());
  }

  [[nodiscard]] std::size_t dim() const noexcept override { return scorer_.dim(); }

 private:
  // The pair may be scored where a model that is not in it has weights beyond float32: ranking is then refused.
  void fold_all(const FactorWeights& weights, std::size_t count) {
    std::vector<std::size_t> all(count);
    std::iota(all.begin(), all.end(), std::size_t{0});
    const std::vector<double> wide = fold_models(weights, all);
    std::vector<float> rows(wide.size());
    for (std::size_t i = 0; i < wide.size(); ++i) rows[i] = static_cast<float>(wide[i]);
    try {
      models_ = std::make_unique<const LinearModels>(rows, count, kernels(active_isa()));
    } catch (const Error& error) {
      why_no_ranking_ = error.what();
    }
  }

  void score_texts(const TextBatch& texts, std::optional<double> /*threshold*/, float* out) const override {
    for (std::size_t i = 0; i < texts.count; ++i) out[i] = text_scorer_->win_rate(readable(texts[i]));
  }

  void score_embeddings(const float* embeddings, std::size_t count, std::optional<double> /*threshold*/,
                        float* out) const override {
    scorer_.win_rates(embeddings, count, dim(), out);
  }

  void score_models(const float* embedding, Source /*source*/, float* scores) const override {
    if (models_ == nullptr) throw Error(ErrorCode::kInvalidArgument, "the models cannot be ranked: " + why_no_ranking_);
    models_->logits(embedding, 1, dim(), scores);
  }

  LinearScorer scorer_;
  std::unique_ptr<const TextScorer> text_scorer_;
  std::unique_ptr<const LinearModels> models_;
  std::string why_no_ranking_;
};

}  // namespace

std::unique_ptr<const Router> restore_matrix_factorization(const DirectoryContents& contents, StoredEmbedder embedder,
                                                           const RouterOptions& options) {
  const JsonValue& settings = contents.entry("settings");
  const std::string& where = contents.path;
  if (!settings.has_exactly({"models", "scoring_pair"})) {
    throw Error(ErrorCode::kBadDirectory,
                where + ": an mf router's settings hold models (a list of names) and scoring_pair (strong and weak)");
  }
  const std::vector<std::string> names = read_names(*settings.find("models"), where);
  const Tensor& w = required(contents.tensors, "w", DataType::kFloat32, {kAnyCount}, where);
  const Tensor& P = required(contents.tensors, "P", DataType::kFloat32, {names.size(), w.shape[0]}, where);  // NOLINT
  const Tensor& W = required(contents.tensors, "W", DataType::kFloat32, {w.shape[0], kAnyCount}, where);     // NOLINT
  const std::vector<float> vectors = P.values<float>();
  const std::vector<float> projection = W.values<float>();
  const std::vector<float> classifier = w.values<float>();
  const auto dim = static_cast<std::size_t>(W.shape[1]);
  if (embedder.embedder != nullptr && embedder.embedder->dim() != dim) {
    throw Error(ErrorCode::kBadDirectory, where + ": W projects embeddings of " + std::to_string(dim) +
                                              " dimensions, the embedder makes " +
                                              std::to_string(embedder.embedder->dim()));
  }
  const ScoringPair pair = read_scoring_pair(*settings.find("scoring_pair"), names, where);
  return std::make_unique<const MatrixFactorizationRouter>(contents, std::move(embedder), options, names,
                                                           FactorWeights{vectors, projection, classifier, dim}, pair);
}

}  // namespace routellm_fast
