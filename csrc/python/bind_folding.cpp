#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/error.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "score/model_folding.hpp"

namespace routellm_fast {

void bind_folding(py::module_& m) {
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
}

}  // namespace routellm_fast
