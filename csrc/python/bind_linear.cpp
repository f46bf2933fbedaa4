#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "python/text.hpp"
#include "score/linear_scorer.hpp"

namespace routellm_fast {

void bind_linear(py::module_& m) {
  py::class_<LinearScorer>(m, "LinearScorer", "sigmoid(v . embedding) for one pair of models. Immutable, thread-safe.")
      .def(py::init([](const FloatArray& weights, const std::optional<std::string>& isa) {
             return std::make_unique<LinearScorer>(span_of(weights), kernels_named(isa));
           }),
           py::arg("weights"), py::kw_only(), py::arg("isa") = py::none())
      .def_property_readonly("dim", &LinearScorer::dim)
      .def(
          "win_rate",
          [](const LinearScorer& self, py::handle embedding) {
            return self.win_rate(floats(embedding, 1, self.dim(), "embedding").data());
          },
          py::arg("embedding"), "Win rate of one (dim,) float32 embedding.")
      .def(
          "win_rates",
          [](const LinearScorer& self, py::handle embeddings) {
            const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
            const auto count = static_cast<std::size_t>(rows.shape(0));
            py::array_t<float> out(static_cast<py::ssize_t>(count));
            const float* data = rows.data();
            float* target = out.mutable_data();
            {
              const MaybeUnlock unlock(count * self.dim() * sizeof(float) / 4);
              self.win_rates(data, count, self.dim(), target);
            }
            return out;
          },
          py::arg("embeddings"), "(n, dim) float32 to (n,) float32.");

  py::class_<LinearModels>(m, "LinearModels", "Every model's logit at once. Immutable, thread-safe.")
      .def(py::init([](const FloatArray& rows, const std::optional<std::string>& isa) {
             if (rows.ndim() != 2) {
               throw Error(ErrorCode::kInvalidArgument, "rows must be (models, dim), found " + describe(rows) + ".");
             }
             return std::make_unique<LinearModels>(span_of(rows), static_cast<std::size_t>(rows.shape(0)),
                                                   kernels_named(isa));
           }),
           py::arg("rows"), py::kw_only(), py::arg("isa") = py::none())
      .def(
          "logits",
          [](const LinearModels& self, py::handle embeddings) {
            const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
            const auto count = static_cast<std::size_t>(rows.shape(0));
            FloatArray out = make_floats(count, self.model_count());
            const float* data = rows.data();
            float* target = out.mutable_data();
            {
              const MaybeUnlock unlock(count * self.dim() * sizeof(float));
              self.logits(data, count, self.dim(), target);
            }
            return out;
          },
          py::arg("embeddings"), "(n, dim) float32 to (n, models) float32.");

  py::class_<TextScorer>(m, "TextScorer", "Text to win rate in one call. Immutable, thread-safe.")
      .def(py::init([](std::shared_ptr<StaticEmbedder> embedder, const FloatArray& weights) {
             return std::make_unique<TextScorer>(std::move(embedder), span_of(weights));
           }),
           py::arg("embedder"), py::arg("weights"))
      .def_property_readonly("is_folded", &TextScorer::is_folded)
      .def(
          "win_rate",
          [](const TextScorer& self, py::handle text) {
            if (!PyUnicode_Check(text.ptr())) throw_not_text(text, "prompt");
            thread_local std::string scratch;
            const std::string_view view = utf8_of(text.ptr(), self.embedder().options().max_code_points, scratch);
            const MaybeUnlock unlock(view.size());
            return self.win_rate(view);
          },
          py::arg("text"), "Win rate of one text.")
      .def(
          "win_rates",
          [](const TextScorer& self, const py::sequence& texts) {
            const HeldTexts batch(texts, self.embedder().options().max_code_points);
            py::array_t<float> out(static_cast<py::ssize_t>(batch.views().size()));
            float* target = out.mutable_data();
            {
              const MaybeUnlock unlock(batch.bytes());
              for (const std::string_view text : batch.views()) *target++ = self.win_rate(text);
            }
            return out;
          },
          py::arg("texts"), "(n,) float32.");
}

}  // namespace routellm_fast
