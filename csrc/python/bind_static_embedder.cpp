#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "embed/static_embedder.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"
#include "python/text.hpp"
#include "text/surface_features.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {

void bind_static_embedder(py::module_& m) {
  m.def("surface_feature_names", &surface_feature_names, "The names of all surface features.");
  py::class_<StaticEmbedder, std::shared_ptr<StaticEmbedder>>(
      m, "StaticEmbedder", "Mean of token vectors, then surface features. Immutable, thread-safe.")
      .def(py::init([](std::shared_ptr<WordPieceTokenizer> tokenizer, const py::array& table,
                       const std::optional<py::array_t<float, py::array::c_style>>& column_scale,
                       const std::optional<py::array_t<std::uint32_t, py::array::c_style>>& rows,
                       const std::optional<py::array_t<float, py::array::c_style>>& weights, std::size_t max_tokens,
                       std::size_t max_code_points, std::size_t tail_tokens, bool normalize, std::optional<std::uint32_t> dropped_token,
                       const std::vector<std::string>& surface_features, const std::optional<std::string>& isa) {
             using Float32 = py::array_t<float, py::array::c_style>;
             using Int8 = py::array_t<std::int8_t, py::array::c_style>;
             if (table.ndim() != 2 || !(Float32::check_(table) || Int8::check_(table))) {
               throw Error(ErrorCode::kInvalidArgument,
                           "a token table must be a float32 or int8 C-contiguous array of two dimensions, found " +
                               describe(table) + ".");
             }
             TokenTable native;
             native.dim = static_cast<std::size_t>(table.shape(1));
             const auto size = static_cast<std::size_t>(table.size());
             if (Float32::check_(table)) {
               const auto* data = static_cast<const float*>(table.data());
               native.float32.assign(data, data + size);
             } else {
               const auto* data = static_cast<const std::int8_t*>(table.data());
               native.int8.assign(data, data + size);
             }
             const auto copy = [](const auto& array, auto& target) {
               if (array) target.assign(array->data(), array->data() + array->size());
             };
             copy(column_scale, native.column_scale);
             copy(rows, native.rows);
             copy(weights, native.weights);
             StaticEmbedderOptions options{.max_tokens = max_tokens,
                                           .max_code_points = max_code_points,
                                           .tail_tokens = tail_tokens,
                                           .normalize = normalize,
                                           .dropped_token = dropped_token,
                                           .surface_features = {}};
             for (const std::string& name : surface_features) {
               options.surface_features.push_back(parse_surface_feature(name));
             }
             return std::make_shared<StaticEmbedder>(std::move(tokenizer), std::move(native), std::move(options),
                                                     kernels_named(isa));
           }),
           py::arg("tokenizer").none(true), py::arg("table"), py::kw_only(), py::arg("column_scale") = py::none(),
           py::arg("rows") = py::none(), py::arg("weights") = py::none(), py::arg("max_tokens") = 512,
           py::arg("max_code_points") = 64 * 512, py::arg("tail_tokens") = 0, py::arg("normalize") = true, py::arg("dropped_token") = py::none(),
           py::arg("surface_features") = std::vector<std::string>{}, py::arg("isa") = py::none())
      .def_property_readonly("dim", &StaticEmbedder::dim)
      .def_property_readonly("max_code_points", [](const StaticEmbedder& self) { return self.limits().whole; })
      .def_property_readonly(
          "tail_code_points", [](const StaticEmbedder& self) { return self.limits().tail; },
          "How many of max_code_points are for the end of a text that has more.")
      .def_property_readonly(
          "table",
          [](const py::object& self) -> py::array {
            const TokenTable& table = self.cast<const StaticEmbedder&>().table();
            const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(table.row_count()),
                                                 static_cast<py::ssize_t>(table.dim)};
            py::array view = table.int8.empty()
                                 ? py::array(py::dtype::of<float>(), shape, {}, table.float32.data(), self)
                                 : py::array(py::dtype::of<std::int8_t>(), shape, {}, table.int8.data(), self);
            view.attr("setflags")(py::arg("write") = false);
            return view;
          },
          "(rows, token dim) float32 or int8: a read-only view of the native table.")
      .def(
          "embed",
          [](const StaticEmbedder& self, py::handle texts) {
            const HeldTexts batch(texts, self.limits());
            FloatArray out = make_floats(batch.texts().size(), self.dim());
            float* row = out.mutable_data();
            const MaybeUnlock unlock(batch.bytes());
            for (const Excerpt& text : batch.texts()) {
              self.embed(text, row);
              row += self.dim();
            }
            return out;
          },
          py::arg("texts"), "(n, dim) float32.")
      .def(
          "embed_ids",
          [](const StaticEmbedder& self, const std::vector<std::vector<std::uint32_t>>& ids,
             const std::vector<std::size_t>& token_counts, py::handle texts) {
            const HeldTexts batch(texts, self.limits());
            if (ids.size() != batch.texts().size() || token_counts.size() != ids.size()) {
              throw Error(ErrorCode::kInvalidArgument, std::to_string(ids.size()) + " id lists and " +
                                                           std::to_string(token_counts.size()) + " counts for " +
                                                           std::to_string(batch.texts().size()) + " texts.");
            }
            FloatArray out = make_floats(ids.size(), self.dim());
            float* row = out.mutable_data();
            const MaybeUnlock unlock(batch.bytes());
            for (std::size_t i = 0; i < ids.size(); ++i) {
              self.embed_ids({ids[i], token_counts[i]}, batch.texts()[i], row + i * self.dim());
            }
            return out;
          },
          py::arg("ids"), py::arg("token_counts"), py::arg("texts"),
          "The same from ids that another tokenizer found, at most max_tokens a text, and each text's number of tokens.")
      .def(
          "reads_whole",
          [](const StaticEmbedder& self, py::handle texts) {
            const HeldTexts batch(texts, self.limits());
            py::array_t<bool> out(static_cast<py::ssize_t>(batch.texts().size()));
            bool* const is_whole = out.mutable_data();
            const MaybeUnlock unlock(batch.bytes());
            for (std::size_t i = 0; i < batch.texts().size(); ++i) {
              is_whole[i] = self.find(batch.texts()[i]).is_whole;
            }
            return out;
          },
          py::arg("texts"), "(n,) bool: whether all of a text is read.")
      .def(
          "token_ids",
          [](const StaticEmbedder& self, py::handle texts) {
            const HeldTexts batch(texts, self.limits());
            py::list out;
            for (const Excerpt& text : batch.texts()) {
              const std::span<const std::uint32_t> ids = self.find(text).ids;
              out.append(py::array_t<std::uint32_t>(static_cast<py::ssize_t>(ids.size()), ids.data()));
            }
            return out;
          },
          py::arg("texts"), "The tokens that are read of each text, (n,) uint32 each.");
}

}  // namespace routellm_fast
