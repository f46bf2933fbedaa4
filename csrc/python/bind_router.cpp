#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "python/text.hpp"
#include "router/router.hpp"
#include "router/similarity_weighted.hpp"

namespace routellm_fast {
namespace {

using Threshold = std::optional<double>;

// Text that a router reads by itself: what it costs is known by its length, and by what its embedding is held against.
std::size_t text_work(const Router& router, std::size_t bytes, std::size_t count) {
  const std::size_t values = router.work_per_score();
  return values >= MaybeUnlock::kLeastBytes ? count * values : bytes;
}

std::size_t score_work(const Router& router, std::size_t count) { return count * router.work_per_score(); }

struct Reading {
  float win_rate;
  bool is_whole;  // whether all of the text was read
};

Reading read_one(const Router& self, py::handle text, Threshold threshold) {
  if (!PyUnicode_Check(text.ptr())) throw_not_text(text, "prompt");
  thread_local std::string scratch;
  const Excerpt read = utf8_of(text.ptr(), self.limits(), scratch);
  const MaybeUnlock unlock(text_work(self, read.head.size() + read.tail.size(), 1));
  Reading out{};
  self.win_rates({.texts = {&read, 1}, .is_utf8 = true}, threshold, &out.win_rate, &out.is_whole);
  return out;
}

float win_rate(const Router& self, py::handle text) { return read_one(self, text, std::nullopt).win_rate; }

py::array_t<float> win_rates(const Router& self, py::handle texts) {
  const HeldTexts batch(texts, self.limits());
  py::array_t<float> out(static_cast<py::ssize_t>(batch.texts().size()));
  float* const target = out.mutable_data();
  {
    const MaybeUnlock unlock(text_work(self, batch.bytes(), batch.texts().size()));
    self.win_rates({.texts = batch.texts(), .is_utf8 = true}, std::nullopt, target);
  }
  return out;
}

// The tuple is made by hand: this is what a decision waits for.
py::tuple route(const Router& self, py::handle text, double threshold) {
  const Reading reading = read_one(self, text, threshold);
  auto rate = py::reinterpret_steal<py::object>(PyFloat_FromDouble(static_cast<double>(reading.win_rate)));
  PyObject* const made = rate ? PyTuple_Pack(2, rate.ptr(), reading.is_whole ? Py_True : Py_False) : nullptr;
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::tuple>(made);
}

py::tuple route_batch(const Router& self, py::handle texts, double threshold) {
  const HeldTexts batch(texts, self.limits());
  const auto count = static_cast<py::ssize_t>(batch.texts().size());
  py::array_t<float> rates(count);
  py::array_t<bool> whole(count);
  float* const rate = rates.mutable_data();
  bool* const is_whole = whole.mutable_data();
  {
    const MaybeUnlock unlock(text_work(self, batch.bytes(), batch.texts().size()));
    self.win_rates({.texts = batch.texts(), .is_utf8 = true}, threshold, rate, is_whole);
  }
  return py::make_tuple(std::move(rates), std::move(whole));
}

Source source_of(bool of_texts) { return of_texts ? Source::kText : Source::kCaller; }

float win_rate_from_embedding(const Router& self, py::handle embedding, Threshold threshold, bool of_text) {
  const FloatArray row = floats(embedding, 1, self.dim(), "embedding");
  const float* const data = row.data();
  float out = 0.0F;
  const MaybeUnlock unlock(score_work(self, 1));
  self.win_rates(data, 1, source_of(of_text), threshold, &out);
  return out;
}

py::array_t<float> win_rates_from_embeddings(const Router& self, py::handle embeddings, Threshold threshold,
                                             bool of_texts) {
  const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
  const auto count = static_cast<std::size_t>(rows.shape(0));
  py::array_t<float> out(static_cast<py::ssize_t>(count));
  const float* const data = rows.data();
  float* const target = out.mutable_data();
  {
    const MaybeUnlock unlock(score_work(self, count));
    self.win_rates(data, count, source_of(of_texts), threshold, target);
  }
  return out;
}

py::array_t<double> exact_win_rates(const Router& self, py::handle embeddings, bool of_texts) {
  const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
  const auto count = static_cast<std::size_t>(rows.shape(0));
  py::array_t<double> out(static_cast<py::ssize_t>(count));
  const float* const data = rows.data();
  double* const target = out.mutable_data();
  {
    const MaybeUnlock unlock(score_work(self, count));
    self.exact_win_rates(data, count, source_of(of_texts), target);
  }
  return out;
}

FloatArray rank(const Router& self, py::handle embeddings) {
  const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
  const auto count = static_cast<std::size_t>(rows.shape(0));
  FloatArray out = make_floats(count, self.model_names().size());
  const float* const data = rows.data();
  float* const target = out.mutable_data();
  {
    const MaybeUnlock unlock(score_work(self, count) * sizeof(float));
    self.rank(data, count, target);
  }
  return out;
}

using Measure = void (SimilarityWeightedRouter::*)(const float*, std::size_t, double*) const;

// A function of embeddings that gives one float64 each, or `width` of them.
Array<double> measured(const SimilarityWeightedRouter& self, py::handle embeddings, Measure measure,
                       std::optional<std::size_t> width = std::nullopt) {
  const FloatArray rows = floats(embeddings, 2, self.dim(), "embeddings");
  const auto count = static_cast<std::size_t>(rows.shape(0));
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(count)};
  if (width) shape.push_back(static_cast<py::ssize_t>(*width));
  Array<double> out(shape);
  const float* const data = rows.data();
  double* const target = out.mutable_data();
  {
    const py::gil_scoped_release unlock;
    (self.*measure)(data, count, target);
  }
  return out;
}

}  // namespace

void bind_router(py::module_& m) {
  py::class_<Router, std::shared_ptr<Router>>(m, "Router", "Texts and embeddings to win rates. Immutable, thread-safe.")
      .def_property_readonly("dim", &Router::dim)
      .def_property_readonly("model_names", &Router::model_names)
      .def_property_readonly("reads_text", &Router::reads_text)
      .def("win_rate", &win_rate, py::arg("text"), "Win rate of one text.")
      .def("win_rates", &win_rates, py::arg("texts"), "(n,) float32.")
      .def("route", &route, py::arg("text"), py::arg("threshold"),
           "Win rate of one text, exact near the threshold, and whether all of the text was read.")
      .def("route_batch", &route_batch, py::arg("texts"), py::arg("threshold"),
           "(n,) float32 and (n,) bool, as route of each.")
      .def("win_rate_from_embedding", &win_rate_from_embedding, py::arg("embedding"), py::arg("threshold") = py::none(),
           py::arg("of_text") = false, "Win rate of one (dim,) float32 embedding.")
      .def("win_rates_from_embeddings", &win_rates_from_embeddings, py::arg("embeddings"),
           py::arg("threshold") = py::none(), py::arg("of_texts") = false,
           "(n, dim) float32 to (n,) float32. A row of zeros is refused, unless it was made of a text.")
      .def("exact_win_rates", &exact_win_rates, py::arg("embeddings"), py::arg("of_texts") = false,
           "(n, dim) float32 to (n,) float64, without the error of a compressed form.")
      .def("rank", &rank, py::arg("embeddings"), "(n, dim) float32 to (n, models) float32; higher is better.");

  py::class_<SimilarityWeightedRouter, Router, std::shared_ptr<SimilarityWeightedRouter>>(m, "SimilarityWeightedRouter",
                                                                                          "A router of sw_ranking.")
      .def_property_readonly("num_tiers", &SimilarityWeightedRouter::num_tiers)
      .def(
          "wide_win_rates",
          [](const SimilarityWeightedRouter& self, py::handle embeddings) {
            return measured(self, embeddings, &SimilarityWeightedRouter::wide_win_rates);
          },
          py::arg("embeddings"), "(n,) float64 win rates of the router's precision.")
      .def(
          "tier_ratings",
          [](const SimilarityWeightedRouter& self, py::handle embeddings) {
            return measured(self, embeddings, &SimilarityWeightedRouter::tier_ratings, self.num_tiers());
          },
          py::arg("embeddings"), "(n, tiers) float64; NaN for a tier without a rating.")
      .def(
          "largest_similarities",
          [](const SimilarityWeightedRouter& self, py::handle embeddings) {
            return measured(self, embeddings, &SimilarityWeightedRouter::largest_similarities);
          },
          py::arg("embeddings"),
          "(n,) float64 similarity of each embedding, whose largest value is near 1, to the battle most like it, up to "
          "the embedding's length.");

  m.def(
      "make_router",
      [](const DirectoryContents& contents, std::shared_ptr<StaticEmbedder> embedder, std::string strong_model,
         std::string weak_model, std::size_t threads) {
        const RouterOptions options{.strong_model = std::move(strong_model),
                                    .weak_model = std::move(weak_model),
                                    .threads = threads,
                                    .digest = std::nullopt};
        return std::const_pointer_cast<Router>(make_router(
            contents, StoredEmbedder{std::move(embedder), "it has no embedder that the core runs"}, options));
      },
      py::arg("contents"), py::arg("embedder").none(true), py::kw_only(), py::arg("strong_model") = "",
      py::arg("weak_model") = "", py::arg("threads") = 1,
      "The router that contents describe, of kind mf or sw_ranking. The embedder reads its texts; None for "
      "embeddings.");
}

}  // namespace routellm_fast
