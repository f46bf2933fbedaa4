#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "score/bradley_terry.hpp"
#include "score/distinct_rows.hpp"
#include "score/similarity_scorer.hpp"
#include "score/tier_refit.hpp"

namespace routellm_fast {
namespace {

RefitSolver parse_solver(const std::string& name) {
  if (name == "exact") return RefitSolver::kExact;
  if (name == "routellm") return RefitSolver::kRouteLlm;
  throw Error(ErrorCode::kInvalidArgument, "solver must be \"exact\" or \"routellm\", found \"" + name + "\".");
}

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

void bind_ranking(py::module_& m) {
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

  py::class_<TierRefit, std::shared_ptr<TierRefit>>(m, "TierRefit",
                                                    "Weighted Bradley-Terry ratings of tiers. Immutable, thread-safe.")
      .def(py::init([](std::size_t num_tiers, py::handle side_a, py::handle side_b, py::handle outcome,
                       py::handle battles, std::size_t strong_tier, std::size_t weak_tier, const std::string& solver) {
             const std::size_t count = length_of(side_a);
             const auto a = column<std::uint16_t>(side_a, count, "side_a");
             const auto b = column<std::uint16_t>(side_b, count, "side_b");
             const std::vector<Outcome> outcomes = outcomes_of(column<std::uint8_t>(outcome, count, "outcome"));
             const auto counts = column<double>(battles, count, "battles");
             std::vector<Cell> cells;
             for (std::size_t c = 0; c < count; ++c) cells.push_back({a[c], b[c], outcomes[c], counts[c]});
             return std::make_shared<TierRefit>(num_tiers, std::move(cells), strong_tier, weak_tier,
                                                parse_solver(solver));
           }),
           py::arg("num_tiers"), py::arg("side_a"), py::arg("side_b"), py::arg("outcome"), py::arg("battles"),
           py::kw_only(), py::arg("strong_tier"), py::arg("weak_tier"), py::arg("solver") = "exact");
}

}  // namespace routellm_fast
