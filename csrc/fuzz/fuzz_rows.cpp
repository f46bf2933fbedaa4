// Rows of any numbers, finite or not, through what routers are built with and score with: lengths, equal rows, codes,
// folding, and dot products on every instruction set that this machine has.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "score/distinct_rows.hpp"
#include "score/linear_scorer.hpp"
#include "score/model_folding.hpp"
#include "score/panel_codes.hpp"
#include "score/similarity_scorer.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::Isa;
using routellm_fast::PanelCodes;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

struct Rows {
  std::size_t count;
  std::size_t dim;
  std::vector<float> values;

  [[nodiscard]] const float* row(std::size_t r) const { return values.data() + r * dim; }
  [[nodiscard]] bool are_finite() const {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
  }
};

template <typename Call>
bool succeeds(const Call& call) {
  try {
    call();
    return true;
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kInvalidEmbedding,
            "numbers are refused as an argument");
    return false;
  }
}

void check_equal_rows(const Rows& rows) {
  std::vector<std::uint32_t> first(rows.count);
  routellm_fast::first_equal_rows(rows.values.data(), rows.dim, first);
  for (std::size_t r = 0; r < rows.count; ++r) {
    std::size_t expected = 0;
    while (std::memcmp(rows.row(expected), rows.row(r), rows.dim * sizeof(float)) != 0) ++expected;
    require(first[r] == expected, "the first row that equals another is found");
  }
}

void check_norms(const Rows& rows, Isa isa) {
  std::vector<double> norms(rows.count);
  const bool measured = succeeds([&] {
    routellm_fast::row_norms(rows.values.data(), rows.count, rows.dim, routellm_fast::kernels(isa), norms.data());
  });
  if (!measured) return;
  require(rows.are_finite(), "a row that is not finite has no length");
  for (const double norm : norms) require(norm > 0.0 && std::isfinite(norm), "a length is a positive number");
}

void check_codes(const Rows& rows) {
  const std::size_t padded = PanelCodes::panel_count(rows.count) * PanelCodes::kRows;
  std::vector<std::uint8_t> panels(padded * PanelCodes::padded_dim(rows.dim));
  std::vector<float> scales(padded);
  const bool coded =
      succeeds([&] { PanelCodes::encode(rows.values.data(), rows.count, rows.dim, panels.data(), scales.data()); });
  require(coded == rows.are_finite(), "rows are coded where they are finite");
  if (!coded) return;
  for (std::size_t r = 0; r < rows.count; ++r) {
    require(std::isfinite(scales[r]) && scales[r] >= 0.0F, "a scale is a number");
    const std::size_t panel = r / PanelCodes::kRows * PanelCodes::kRows * PanelCodes::padded_dim(rows.dim);
    for (std::size_t d = 0; d < rows.dim; ++d) {
      const std::size_t at = panel + (d / 4 * PanelCodes::kRows + r % PanelCodes::kRows) * 4 + d % 4;
      const double value = static_cast<double>(scales[r]) * (static_cast<double>(panels[at]) - 128.0);
      const double error = std::abs(value - static_cast<double>(rows.row(r)[d]));
      // A row without a number that is large enough for a scale is coded as zeros.
      const double bound = scales[r] == 0.0F ? 127.0 * std::numeric_limits<float>::min() : 0.51 * scales[r];
      require(error <= bound, "a code is the nearest one");
    }
  }
}

void check_scoring(const Rows& rows, Isa isa) {
  std::vector<float> rates(rows.count);
  std::vector<float> alone(1);
  (void)succeeds([&] {
    const routellm_fast::LinearScorer scorer({rows.row(0), rows.dim}, routellm_fast::kernels(isa));
    const bool all = succeeds([&] { scorer.win_rates(rows.values.data(), rows.count, rows.dim, rates.data()); });
    for (std::size_t r = 0; r < rows.count; ++r) {
      const bool one = succeeds([&] { alone[0] = scorer.win_rate(rows.row(r)); });
      require(one || !all, "what is scored in a batch is scored alone");
      if (one) require(alone[0] >= 0.0F && alone[0] <= 1.0F, "a win rate lies in [0, 1]");
      if (all) require(alone[0] == rates[r], "a win rate does not depend on the batch");
    }
  });
  (void)succeeds([&] {
    const routellm_fast::LinearModels models(rows.values, rows.count, routellm_fast::kernels(isa));
    std::vector<float> logits(rows.count * rows.count);
    models.logits(rows.values.data(), rows.count, rows.dim, logits.data());
    for (const float logit : logits) require(!std::isnan(logit), "a logit is a number");
  });
}

// Rows as the parts of matrix factorisation: two models, a square projection.
void check_folding(const Rows& rows) {
  if (rows.count < 2 || !rows.are_finite()) return;
  const std::vector<float> w(rows.values.begin(), rows.values.begin() + static_cast<std::ptrdiff_t>(rows.dim));
  std::vector<float> projection(rows.dim * 3);
  for (std::size_t i = 0; i < projection.size(); ++i) projection[i] = rows.values[i % rows.values.size()];
  const routellm_fast::FactorWeights weights{rows.values, projection, w, 3};
  (void)succeeds([&] {
    const std::vector<float> folded = routellm_fast::fold_pair(weights, 0, 1);
    require(folded.size() == 3, "a fold has the embedding's dimensions");
    const routellm_fast::LinearScorer scorer(folded, routellm_fast::kernels(routellm_fast::active_isa()));
    const std::vector<float> embedding{1.0F, -1.0F, 0.5F};
    const float rate = scorer.win_rate(embedding.data());
    require(rate >= 0.0F && rate <= 1.0F, "a win rate lies in [0, 1]");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  Rows rows{.count = 1U + script.byte() % 20U, .dim = 1U + script.byte() % 20U, .values = {}};
  const std::vector<Isa>& isas = routellm_fast::supported_isas();
  const Isa isa = isas[script.byte() % isas.size()];
  const bool repeats = script.flag();
  std::vector<float> given;
  while (!script.is_over() && given.size() < rows.count * rows.dim) given.push_back(script.float32());
  if (given.empty()) return 0;
  for (std::size_t i = 0; i < rows.count * rows.dim; ++i) {
    rows.values.push_back(repeats || i < given.size() ? given[i % given.size()] : 0.25F);
  }
  check_equal_rows(rows);
  check_norms(rows, isa);
  check_codes(rows);
  check_scoring(rows, isa);
  check_folding(rows);
  return 0;
}
