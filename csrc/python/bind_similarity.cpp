#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "score/coded_bank.hpp"
#include "score/moment_bank.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"
#include "score/similarity_scorer.hpp"

namespace routellm_fast {

void bind_similarity(py::module_& m) {
  py::class_<BankBlock, std::shared_ptr<BankBlock>>(m, "BankBlock", "Embeddings of battles and their cells. Immutable.")
      .def(py::init([](const py::object& rows, py::handle norms, py::handle row_cells, py::handle repeat_rows,
                       py::handle repeat_cells, py::handle repeat_battles, std::size_t cell_count) {
             const FloatArray array = matrix(rows, "rows");
             const auto count = static_cast<std::size_t>(array.shape(0));
             const auto lengths = column<double>(norms, count, "norms");
             const auto cells = column<std::uint32_t>(row_cells, count, "row_cells");
             const std::size_t repeat_count = length_of(repeat_rows);
             const auto at = column<std::uint32_t>(repeat_rows, repeat_count, "repeat_rows");
             const auto of = column<std::uint32_t>(repeat_cells, repeat_count, "repeat_cells");
             const auto times = column<double>(repeat_battles, repeat_count, "repeat_battles");
             std::vector<Repeat> repeats;
             for (std::size_t k = 0; k < repeat_count; ++k) repeats.push_back({at[k], of[k], times[k]});
             return std::make_shared<BankBlock>(keep_alive(rows), array.data(),
                                                static_cast<std::size_t>(array.shape(1)), lengths, cells,
                                                std::move(repeats), cell_count);
           }),
           py::arg("rows"), py::arg("norms"), py::arg("row_cells"), py::arg("repeat_rows"), py::arg("repeat_cells"),
           py::arg("repeat_battles"), py::arg("cell_count"))
      .def_property_readonly("count", &BankBlock::count);

  py::class_<CellSums, std::shared_ptr<CellSums>>(m, "CellSums", "Weights of the battles of each cell, for a query.")
      .def_property_readonly("dim", &CellSums::dim)
      .def_property_readonly("cell_count", &CellSums::cell_count)
      .def(
          "sum",
          [](const CellSums& self, py::handle queries) {
            const FloatArray rows = floats(queries, 2, self.dim(), "queries");
            const auto count = static_cast<std::size_t>(rows.shape(0));
            Array<double> sums({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(self.cell_count())});
            Array<double> largest(static_cast<py::ssize_t>(count));
            const float* data = rows.data();
            double* sums_data = sums.mutable_data();
            double* largest_data = largest.mutable_data();
            {
              const py::gil_scoped_release unlock;
              self.sum(data, count, sums_data, largest_data);
            }
            return py::make_tuple(sums, largest);
          },
          py::arg("queries"),
          "(n, cells) float64 sums, up to a factor a row, and (n,) largest similarities, up to the row's length, of "
          "(n, dim) float32 rows.");

  py::class_<SimilarityBank, CellSums, std::shared_ptr<SimilarityBank>>(m, "SimilarityBank",
                                                                        "Exact cell sums. Immutable, thread-safe.")
      .def(py::init([](std::size_t dim, std::size_t cell_count, const std::vector<std::shared_ptr<BankBlock>>& blocks,
                       bool wide, const std::optional<std::string>& isa) {
             return std::make_shared<SimilarityBank>(
                 dim, cell_count, SimilarityBank::Blocks(blocks.begin(), blocks.end()), wide, kernels_named(isa));
           }),
           py::arg("dim"), py::arg("cell_count"), py::arg("blocks"), py::kw_only(), py::arg("wide") = false,
           py::arg("isa") = py::none())
      .def_property_readonly("row_count", &SimilarityBank::row_count);

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

  py::class_<PanelCodes, std::shared_ptr<PanelCodes>>(m, "PanelCodes", "Rows of one byte a value. Immutable.")
      .def(py::init([](const py::object& panels, const py::object& scales, std::size_t dim) {
             const std::size_t rows = length_of(scales);
             const auto row_scales = column<float>(scales, rows, "scales");
             const std::size_t bytes = rows * PanelCodes::padded_dim(dim);
             if (!Array<std::uint8_t>::check_(panels) || length_of(panels) != bytes || rows % PanelCodes::kRows != 0) {
               throw Error(ErrorCode::kInvalidArgument, "panels must be " + std::to_string(bytes) +
                                                            " uint8 codes for " + std::to_string(rows) +
                                                            " rows, a multiple of 16; found " + describe(panels) + ".");
             }
             return std::make_shared<PanelCodes>(keep_alive(py::make_tuple(panels, scales)),
                                                 py::reinterpret_borrow<Array<std::uint8_t>>(panels).data(), row_scales,
                                                 dim);
           }),
           py::arg("panels"), py::arg("scales"), py::arg("dim"));

  py::class_<PrincipalAxes, std::shared_ptr<PrincipalAxes>>(m, "PrincipalAxes",
                                                            "Mean and main directions of a bank. Immutable.")
      .def(py::init([](py::handle mean, py::handle axes) {
             const std::size_t dim = length_of(mean);
             return std::make_shared<PrincipalAxes>(column<float>(mean, dim, "mean"),
                                                    span_of(floats(axes, 2, dim, "axes")));
           }),
           py::arg("mean"), py::arg("axes"));

  py::class_<CodedBank, CellSums, std::shared_ptr<CodedBank>>(m, "CodedBank",
                                                              "Cell sums from codes. Immutable, thread-safe.")
      .def(py::init([](const std::shared_ptr<SimilarityBank>& bank, const std::shared_ptr<PrincipalAxes>& axes,
                       const std::vector<std::shared_ptr<PanelCodes>>& codes, py::handle residuals, double margin,
                       double reach) {
             return std::make_shared<CodedBank>(
                 bank, axes, std::vector<std::shared_ptr<const PanelCodes>>(codes.begin(), codes.end()),
                 span_of(floats(residuals, 2, bank->dim(), "residuals")), Lookup{margin, reach});
           }),
           py::arg("bank"), py::arg("axes"), py::arg("codes"), py::arg("residuals"), py::arg("margin"),
           py::arg("reach"));

  py::class_<ClusteredCodes>(m, "ClusteredCodes", "The codes of a block, cluster by cluster.")
      .def(py::init(
               [](const std::shared_ptr<PanelCodes>& codes, py::handle first_panel, py::handle rows, py::handle cells) {
                 const auto panels = column<std::uint32_t>(first_panel, length_of(first_panel), "first_panel");
                 const auto ids = column<std::uint32_t>(rows, length_of(rows), "rows");
                 const auto of = column<std::uint32_t>(cells, length_of(cells), "cells");
                 return ClusteredCodes{
                     codes, {panels.begin(), panels.end()}, {ids.begin(), ids.end()}, {of.begin(), of.end()}};
               }),
           py::arg("codes"), py::arg("first_panel"), py::arg("rows"), py::arg("cells"));

  py::class_<MomentBank, CellSums, std::shared_ptr<MomentBank>>(m, "MomentBank",
                                                                "Cell sums from moments. Immutable, thread-safe.")
      .def(
          py::init([](const std::shared_ptr<SimilarityBank>& bank, const std::shared_ptr<PrincipalAxes>& axes,
                      py::handle battles, py::handle sums, py::handle products, py::handle centroids,
                      const std::vector<ClusteredCodes>& codes, std::size_t scanned_rows, double margin, double reach) {
            const auto counts = column<double>(battles, bank->cell_count(), "battles");
            const auto first = span_of(floats(sums, 2, bank->dim(), "sums"));
            const std::size_t axis_count = axes->axis_count();
            const auto second = span_of(floats(products, 2, axis_count * (axis_count + 1) / 2, "products"));
            return std::make_shared<MomentBank>(
                bank, axes,
                MomentBank::Moments{
                    {counts.begin(), counts.end()}, {first.begin(), first.end()}, {second.begin(), second.end()}},
                span_of(floats(centroids, 2, axes->axis_count(), "centroids")), codes, scanned_rows,
                Lookup{margin, reach});
          }),
          py::arg("bank"), py::arg("axes"), py::arg("battles"), py::arg("sums"), py::arg("products"),
          py::arg("centroids"), py::arg("codes"), py::arg("scanned_rows"), py::arg("margin"), py::arg("reach"));

  using Zeros = SimilarityScorer::Zeros;
  const auto zeros_of = [](bool weigh_zeros) { return weigh_zeros ? Zeros::kWeighAllEqually : Zeros::kRefuse; };
  py::class_<SimilarityScorer>(m, "SimilarityScorer", "Embeddings to win rates. Immutable, thread-safe.")
      .def(py::init([](const std::shared_ptr<CellSums>& sums, const std::shared_ptr<TierRefit>& refit,
                       const std::optional<std::string>& isa) {
             return std::make_unique<SimilarityScorer>(sums, refit, kernels_named(isa));
           }),
           py::arg("sums"), py::arg("refit"), py::kw_only(), py::arg("isa") = py::none())
      .def_property_readonly("dim", &SimilarityScorer::dim)
      .def(
          "win_rate",
          [zeros_of](const SimilarityScorer& self, py::handle embedding, bool weigh_zeros) {
            const FloatArray row = floats(embedding, 1, self.dim(), "embedding");
            const float* data = row.data();
            double out = 0.0;
            const py::gil_scoped_release unlock;
            self.win_rates(data, 1, 1, zeros_of(weigh_zeros), &out);
            return out;
          },
          py::arg("embedding"), py::arg("weigh_zeros") = false, "Win rate of one (dim,) float32 embedding.")
      .def(
          "win_rates",
          [zeros_of](const SimilarityScorer& self, py::handle embeddings, std::size_t threads, bool weigh_zeros) {
            const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
            const auto count = static_cast<std::size_t>(rows.shape(0));
            Array<double> out(static_cast<py::ssize_t>(count));
            const float* data = rows.data();
            double* target = out.mutable_data();
            {
              const py::gil_scoped_release unlock;
              self.win_rates(data, count, threads, zeros_of(weigh_zeros), target);
            }
            return out;
          },
          py::arg("embeddings"), py::arg("threads") = 1, py::arg("weigh_zeros") = false,
          "(n, dim) float32 to (n,) float64. A row of zeros weighs all battles equally, or is refused.")
      .def(
          "ratings",
          [zeros_of](const SimilarityScorer& self, py::handle embeddings, std::size_t threads, bool weigh_zeros) {
            const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
            const auto count = static_cast<std::size_t>(rows.shape(0));
            Array<double> out({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(self.refit().num_tiers())});
            const float* data = rows.data();
            double* target = out.mutable_data();
            {
              const py::gil_scoped_release unlock;
              self.ratings(data, count, threads, zeros_of(weigh_zeros), target);
            }
            return out;
          },
          py::arg("embeddings"), py::arg("threads") = 1, py::arg("weigh_zeros") = false,
          "(n, dim) float32 to (n, tiers) float64; NaN for a tier without a rating.");
}

}  // namespace routellm_fast
