// What routers are built with in Python, beside the router itself.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "score/bradley_terry.hpp"
#include "score/distinct_rows.hpp"
#include "score/model_folding.hpp"
#include "score/panel_codes.hpp"
#include "score/similarity_scorer.hpp"

namespace routellm_fast {
namespace {

std::vector<Outcome> outcomes_of(std::span<const std::uint8_t> values) {
  std::vector<Outcome> outcomes;
  outcomes.reserve(values.size());
  for (const std::uint8_t value : values) {
    if (value > 2) {
      throw Error(ErrorCode::kInvalidArgument,
                  "an outcome is 0 (a wins), 1 (b wins) or 2 (tie), found " + std::to_string(value) + ".");
    }
    outcomes.push_back(static_cast<Outcome>(value));
  }
  return outcomes;
}

}  // namespace

void bind_building(py::module_& m) {
  m.def(
      "fold_models",
      [](py::handle P, py::handle W, py::handle w) {  // the paper's letters
        const FloatArray vectors = matrix(P, "P");
        const FloatArray projection = matrix(W, "W");
        const auto classifier = column<float>(w, length_of(w), "w");
        const auto models = static_cast<std::size_t>(vectors.shape(0));
        if (static_cast<std::size_t>(vectors.shape(1)) != classifier.size() ||
            static_cast<std::size_t>(projection.shape(0)) != classifier.size()) {
          throw Error(ErrorCode::kInvalidArgument, "expected P (models, d), W (d, dim) and w (d,), found " +
                                                       describe(P) + ", " + describe(W) + " and " + describe(w) + ".");
        }
        const FactorWeights weights{span_of(vectors), span_of(projection), classifier,
                                    static_cast<std::size_t>(projection.shape(1))};
        std::vector<std::size_t> all(models);
        std::iota(all.begin(), all.end(), std::size_t{0});
        std::vector<double> rows;
        {
          const MaybeUnlock unlock(models * span_of(projection).size_bytes());
          rows = fold_models(weights, all);
        }
        Array<double> out({static_cast<py::ssize_t>(models), projection.shape(1)});
        std::ranges::copy(rows, out.mutable_data());
        return out;
      },
      py::arg("P"), py::arg("W"), py::arg("w"), "(models, dim) float64: row m . embedding is the logit of model m.");
  m.def(
      "global_ratings",
      [](py::handle model_a, py::handle model_b, py::handle outcome, std::size_t models) {
        const std::size_t count = length_of(model_a);
        const auto a = column<std::uint16_t>(model_a, count, "model_a");
        const auto b = column<std::uint16_t>(model_b, count, "model_b");
        const std::vector<Outcome> outcomes = outcomes_of(column<std::uint8_t>(outcome, count, "outcome"));
        WinTable wins(models + 1);
        add_battles(wins, a, b, outcomes);
        std::vector<double> ratings(models + 1);
        fit_ratings_lbfgs(wins, models, ratings);
        return Array<double>(static_cast<py::ssize_t>(models), ratings.data());
      },
      py::arg("model_a"), py::arg("model_b"), py::arg("outcome"), py::arg("models"),
      "Ratings of all models from battles (uint16, uint16, uint8), where RouteLLM's own fit stops.");
  m.def(
      "split_tiers",
      [](const std::vector<double>& descending, std::size_t num_tiers) { return split_tiers(descending, num_tiers); },
      py::arg("descending"), py::arg("num_tiers"), "RouteLLM's tier of each rating, best first.");
  m.def(
      "distinct_rows",
      [](py::handle rows) {
        const FloatArray array = matrix(rows, "rows");
        std::vector<std::uint32_t> first(static_cast<std::size_t>(array.shape(0)));
        const float* data = array.data();
        const auto dim = static_cast<std::size_t>(array.shape(1));
        {
          const MaybeUnlock unlock(span_of(array).size_bytes());
          first_equal_rows(data, dim, first);
        }
        return Array<std::uint32_t>(static_cast<py::ssize_t>(first.size()), first.data());
      },
      py::arg("rows"), "For each row the index of the first one that equals it.");
  m.def(
      "row_norms",
      [](py::handle rows) {
        const FloatArray array = matrix(rows, "embeddings");
        const auto count = static_cast<std::size_t>(array.shape(0));
        const auto dim = static_cast<std::size_t>(array.shape(1));
        Array<double> norms(static_cast<py::ssize_t>(count));
        const float* data = array.data();
        double* target = norms.mutable_data();
        const KernelTable& table = kernels(active_isa());
        {
          const MaybeUnlock unlock(span_of(array).size_bytes());
          row_norms(data, count, dim, table, target);
        }
        return norms;
      },
      py::arg("rows"), "(n,) float64 lengths. Refuses zeros and values that are not finite, naming the row.");
  m.def(
      "encode_panels",
      [](py::handle rows) {
        const FloatArray array = matrix(rows, "rows");
        const auto count = static_cast<std::size_t>(array.shape(0));
        const auto dim = static_cast<std::size_t>(array.shape(1));
        const std::size_t padded_rows = PanelCodes::panel_count(count) * PanelCodes::kRows;
        Array<std::uint8_t> panels(
            {padded_rows / PanelCodes::kRows, PanelCodes::padded_dim(dim) / 4, PanelCodes::kRows, std::size_t{4}});
        Array<float> scales(static_cast<py::ssize_t>(padded_rows));
        const float* data = array.data();
        std::uint8_t* codes = panels.mutable_data();
        float* scale = scales.mutable_data();
        {
          const MaybeUnlock unlock(span_of(array).size_bytes());
          PanelCodes::encode(data, count, dim, codes, scale);
        }
        return py::make_tuple(panels, scales);
      },
      py::arg("rows"),
      "uint8 codes (panels, dim / 4, 16, 4) and float32 scales (16 panels,) of (n, dim) float32 rows.");
}

}  // namespace routellm_fast
