// Routers of kind mf: a vector for each model, folded to one for the pair.
#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "router/parts.hpp"
#include "router/router.hpp"
#include "score/linear_scorer.hpp"
#include "score/model_folding.hpp"

namespace routellm_fast {
namespace {

struct Weights {
  std::vector<float> P;  // NOLINT(readability-identifier-naming): the paper's letters, as for the next
  std::vector<float> W;  // NOLINT(readability-identifier-naming)
  std::vector<float> w;
  std::size_t dim;

  [[nodiscard]] FactorWeights view() const { return {P, W, w, dim}; }
};

class MatrixFactorizationRouter final : public Router {
 public:
  MatrixFactorizationRouter(const DirectoryContents& contents, StoredEmbedder stored, const RouterOptions& options,
                            const std::vector<std::string>& names, Weights weights, ScoringPair pair)
      : Router(contents, std::move(stored), options, names),
        weights_(std::move(weights)),
        scorer_(fold_pair(weights_.view(), pair.strong, pair.weak), kernels(active_isa())) {
    if (embedder() != nullptr) text_scorer_ = std::make_unique<const TextScorer>(embedder(), scorer_.weights());
  }

  [[nodiscard]] std::size_t dim() const noexcept override { return scorer_.dim(); }
  [[nodiscard]] std::size_t work_per_score() const noexcept override { return scorer_.dim(); }

  void exact_win_rates(const float* embeddings, std::size_t count, Source /*source*/, double* out) const override {
    std::vector<float> narrow(count);
    scorer_.win_rates(embeddings, count, dim(), narrow.data());
    std::ranges::copy(narrow, out);
  }

 private:
  // When models are first ranked: most programs never ask, and folding all takes longer than the rest of loading. The
  // pair may be scored where a model that is not in it has weights beyond float32: ranking is then refused.
  [[nodiscard]] const LinearModels& models() const {
    std::call_once(folded_, [this] {
      std::vector<std::size_t> all(model_names().size());
      std::iota(all.begin(), all.end(), std::size_t{0});
      const std::vector<double> wide = fold_models(weights_.view(), all);
      std::vector<float> rows(wide.size());
      for (std::size_t i = 0; i < wide.size(); ++i) rows[i] = static_cast<float>(wide[i]);
      try {
        models_ = std::make_unique<const LinearModels>(rows, all.size(), kernels(active_isa()));
      } catch (const Error& error) {
        why_no_ranking_ = error.what();
      }
    });
    if (models_ == nullptr) throw Error(ErrorCode::kInvalidArgument, "the models cannot be ranked: " + why_no_ranking_);
    return *models_;
  }

  void score_texts(const TextBatch& texts, std::optional<double> /*threshold*/, float* out,
                   bool* is_whole) const override {
    for (std::size_t i = 0; i < texts.texts.size(); ++i) {
      out[i] = text_scorer_->win_rate(readable(texts, i), is_whole == nullptr ? nullptr : is_whole + i);
    }
  }

  void score_embeddings(const float* embeddings, std::size_t count, Source /*source*/,
                        std::optional<double> /*threshold*/, float* out) const override {
    scorer_.win_rates(embeddings, count, dim(), out);
  }

  void score_models(const float* embeddings, std::size_t count, Source /*source*/, float* scores) const override {
    models().logits(embeddings, count, dim(), scores);
  }

  Weights weights_;
  LinearScorer scorer_;
  std::unique_ptr<const TextScorer> text_scorer_;
  mutable std::once_flag folded_;
  mutable std::unique_ptr<const LinearModels> models_;
  mutable std::string why_no_ranking_;
};

}  // namespace

std::shared_ptr<const Router> make_matrix_factorization(const DirectoryContents& contents, StoredEmbedder embedder,
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
  const auto dim = static_cast<std::size_t>(W.shape[1]);
  check_embedder(embedder, dim, "W projects embeddings of", where);
  const ScoringPair pair = read_scoring_pair(*settings.find("scoring_pair"), names, where);
  Weights weights{P.values<float>(), W.values<float>(), w.values<float>(), dim};
  return std::make_shared<const MatrixFactorizationRouter>(contents, std::move(embedder), options, names,
                                                           std::move(weights), pair);
}

}  // namespace routellm_fast
