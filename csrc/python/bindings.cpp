// The one file that knows Python. Each function does five things in this order: take the arguments without silent
// copies, check them with a message that says what was found and expected, make the output, release the interpreter
// lock where the work outweighs that, call the core. No algorithm lives here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"
#include "embed/embedding_cache.hpp"
#include "embed/static_embedder.hpp"
#include "score/bradley_terry.hpp"
#include "score/coded_bank.hpp"
#include "score/distinct_rows.hpp"
#include "score/linear_scorer.hpp"
#include "score/model_folding.hpp"
#include "score/moment_bank.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"
#include "score/similarity_scorer.hpp"
#include "score/tier_refit.hpp"
#include "text/surface_features.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace py = pybind11;

namespace routellm_fast {
namespace {

using FloatArray = py::array_t<float, py::array::c_style>;

// Releasing and taking the lock costs about 0.1 microseconds: below this much work, other threads gain less than we
// lose.
constexpr std::size_t kUnlockBytes = 4096;

class MaybeUnlock {
 public:
  explicit MaybeUnlock(std::size_t bytes) {
    if (bytes >= kUnlockBytes) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

// --- errors ---------------------------------------------------------------------------------------------------------

const char* python_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidEmbedding:
      return "InvalidEmbeddingError";
    case ErrorCode::kUnsupportedIsa:
      return "UnsupportedIsaError";
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:  // these are of the C ABI's reader of directories; Python has its own
    case ErrorCode::kBadDirectory:
    case ErrorCode::kNoEmbedder:
      break;
  }
  return "InvalidArgumentError";
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("routellm_fast.errors").attr(python_name(error.code()));
    py::set_error(type, error.what());
  }
}

// --- text -----------------------------------------------------------------------------------------------------------

// Writes one character and returns the place behind it.
char* write_utf8(std::uint32_t c, char* out) {
  if (c < 0x80) {
    *out++ = static_cast<char>(c);
    return out;
  }
  // A lone surrogate is no character: like every invalid sequence it becomes U+FFFD, which tokenizers drop.
  if (c >= 0xD800 && c <= 0xDFFF) c = 0xFFFD;
  if (c < 0x800) {
    *out++ = static_cast<char>(0xC0 | (c >> 6));
  } else {
    if (c < 0x10000) {
      *out++ = static_cast<char>(0xE0 | (c >> 12));
    } else {
      *out++ = static_cast<char>(0xF0 | (c >> 18));
      *out++ = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    }
    *out++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
  }
  *out++ = static_cast<char>(0x80 | (c & 0x3F));
  return out;
}

template <typename Character>
std::string_view transcode(const void* data, std::size_t length, std::string& scratch) {
  const std::span<const Character> characters(static_cast<const Character*>(data), length);
  std::size_t bytes = 0;
  for (const std::uint32_t c : characters) bytes += 1U + (c >= 0x80U) + (c >= 0x800U) + (c >= 0x10000U);
  scratch.resize(bytes);
  char* end = scratch.data();
  for (const std::uint32_t c : characters) end = write_utf8(c, end);
  return scratch;
}

// Python keeps a str in 1, 2 or 4 bytes a character. ASCII is UTF-8 already and is borrowed; the rest is transcoded
// into `scratch`, and only as far as it will be read: PyUnicode_AsUTF8 would convert, and keep, all of a huge string.
std::string_view utf8_of(PyObject* text, std::size_t max_code_points, std::string& scratch) {
  const std::size_t length = std::min(static_cast<std::size_t>(PyUnicode_GET_LENGTH(text)), max_code_points);
  const void* data = PyUnicode_DATA(text);
  if (PyUnicode_IS_COMPACT_ASCII(text)) return {static_cast<const char*>(data), length};
  switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
      return transcode<Py_UCS1>(data, length, scratch);
    case PyUnicode_2BYTE_KIND:
      return transcode<Py_UCS2>(data, length, scratch);
    default:
      return transcode<Py_UCS4>(data, length, scratch);
  }
}

[[noreturn]] void throw_not_text(py::handle value, const std::string& where) {
  throw py::type_error(where + " must be str, not " + std::string(Py_TYPE(value.ptr())->tp_name) +
                       ". Chat messages become text with routellm_fast.prompt.text_of().");
}

// A batch of texts as UTF-8: views into Python's own strings where they are ASCII, else into `transcoded`.
class TextBatch {
 public:
  TextBatch(const py::sequence& texts, std::size_t max_code_points) {
    // A list or tuple of str as it is; any other sequence once as a list. A bare string is a sequence too, of its
    // letters: the commonest slip, so refuse it by name.
    if (py::isinstance<py::str>(texts) || py::isinstance<py::bytes>(texts)) {
      throw py::type_error("expected a sequence of str, found one " + std::string(Py_TYPE(texts.ptr())->tp_name) +
                           ": put it into a list.");
    }
    items_ = py::reinterpret_steal<py::object>(PySequence_Fast(texts.ptr(), "expected a sequence of str"));
    if (!items_) throw py::error_already_set();
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr()));
    views_.reserve(count);
    held_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      PyObject* item = PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
      if (!PyUnicode_Check(item)) throw_not_text(item, "text " + std::to_string(i));
      // A list may be changed by another thread once the lock is released: hold each text.
      held_.push_back(py::reinterpret_borrow<py::object>(item));
      if (PyUnicode_IS_COMPACT_ASCII(item) == 0) transcoded_.emplace_back();
      std::string unused;
      views_.push_back(utf8_of(item, max_code_points, transcoded_.empty() ? unused : transcoded_.back()));
      bytes_ += views_.back().size();
    }
  }

  [[nodiscard]] const std::vector<std::string_view>& views() const { return views_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  py::object items_;
  std::vector<py::object> held_;
  std::deque<std::string> transcoded_;  // a deque: views stay valid while it grows
  std::vector<std::string_view> views_;
  std::size_t bytes_ = 0;
};

// --- arrays ---------------------------------------------------------------------------------------------------------

std::string describe(py::handle value) {
  if (!py::isinstance<py::array>(value)) return {Py_TYPE(value.ptr())->tp_name};
  const auto array = py::reinterpret_borrow<py::array>(value);
  const auto shape = py::str(array.attr("shape")).cast<std::string>();
  const bool contiguous = (array.flags() & py::array::c_style) != 0;
  return py::str(array.dtype()).cast<std::string>() + " " + shape + (contiguous ? "" : ", not C-contiguous");
}

// The array itself, never a converted copy.
FloatArray floats(py::handle value, int ndim, std::size_t dim, const char* what) {
  const bool fits = FloatArray::check_(value) && py::reinterpret_borrow<FloatArray>(value).ndim() == ndim &&
                    static_cast<std::size_t>(py::reinterpret_borrow<FloatArray>(value).shape(ndim - 1)) == dim;
  if (!fits) {
    const std::string extent = (ndim == 1 ? "(" : "(n, ") + std::to_string(dim) + (ndim == 1 ? ",)" : ")");
    throw Error(ErrorCode::kInvalidEmbedding, std::string(what) + " must be a float32 C-contiguous array of shape " +
                                                  extent + ", found " + describe(value) +
                                                  ". numpy.ascontiguousarray(x, dtype=numpy.float32) converts.");
  }
  return py::reinterpret_borrow<FloatArray>(value);
}

template <typename T>
std::span<const T> span_of(const py::array_t<T, py::array::c_style>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

FloatArray make_floats(std::size_t rows, std::size_t columns) {
  return FloatArray({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(columns)});
}

const KernelTable& kernels_named(const std::optional<std::string>& isa) {
  return kernels(isa ? parse_isa(*isa) : active_isa());
}

// --- classes --------------------------------------------------------------------------------------------------------

void bind_tokenizer(py::module_& m) {
  py::class_<WordPieceTokenizer, std::shared_ptr<WordPieceTokenizer>>(
      m, "WordPieceTokenizer", "BERT's tokenizer: text to token ids, equal to Hugging Face's. Immutable, thread-safe.")
      .def(py::init([](const std::vector<std::string>& vocabulary, std::uint32_t unk_id, bool clean_text,
                       bool handle_chinese_chars, bool strip_accents, bool lowercase, std::size_t max_word_chars,
                       const std::string& continuing_prefix,
                       const std::vector<std::pair<std::string, std::uint32_t>>& added_tokens) {
             std::vector<AddedToken> added;
             added.reserve(added_tokens.size());
             for (const auto& [content, id] : added_tokens) added.push_back({content, id});
             const WordPieceOptions options{.clean_text = clean_text,
                                            .handle_chinese_chars = handle_chinese_chars,
                                            .strip_accents = strip_accents,
                                            .lowercase = lowercase,
                                            .unk_id = unk_id,
                                            .max_word_chars = max_word_chars,
                                            .continuing_prefix = continuing_prefix};
             return std::make_shared<WordPieceTokenizer>(vocabulary, options, added);
           }),
           py::arg("vocabulary"), py::kw_only(), py::arg("unk_id"), py::arg("clean_text") = true,
           py::arg("handle_chinese_chars") = true, py::arg("strip_accents") = true, py::arg("lowercase") = true,
           py::arg("max_word_chars") = 100, py::arg("continuing_prefix") = "##",
           py::arg("added_tokens") = std::vector<std::pair<std::string, std::uint32_t>>{})
      .def_property_readonly("vocabulary_size", &WordPieceTokenizer::vocabulary_size)
      .def(
          "encode",
          [](const WordPieceTokenizer& self, py::handle text, std::optional<std::size_t> max_tokens) {
            std::string scratch;
            std::string_view view;
            if (PyUnicode_Check(text.ptr())) {
              view = utf8_of(text.ptr(), static_cast<std::size_t>(-1), scratch);
            } else if (py::isinstance<py::bytes>(text)) {
              view = std::string_view(PyBytes_AS_STRING(text.ptr()),
                                      static_cast<std::size_t>(PyBytes_GET_SIZE(text.ptr())));
            } else {
              throw_not_text(text, "text");
            }
            // A byte makes at most one token, but an added token never more than its bytes: size() ids always suffice.
            // One spare, so that an uncapped read is not taken for one that the cap stopped.
            std::vector<std::uint32_t> ids(
                std::min(max_tokens.value_or(static_cast<std::size_t>(-1)), view.size() + 1));
            const std::size_t count = self.encode(view, ids).token_count;
            return py::array_t<std::uint32_t>(static_cast<py::ssize_t>(count), ids.data());
          },
          py::arg("text"), py::arg("max_tokens") = py::none(),
          "Token ids, uint32, at most max_tokens. bytes are read as UTF-8, invalid sequences as U+FFFD.");
}

void bind_static_embedder(py::module_& m) {
  py::class_<StaticEmbedder, std::shared_ptr<StaticEmbedder>>(
      m, "StaticEmbedder", "Mean of token vectors, then surface features. Immutable, thread-safe.")
      .def(py::init([](std::shared_ptr<WordPieceTokenizer> tokenizer, const py::array& table,
                       const std::optional<py::array_t<float, py::array::c_style>>& column_scale,
                       const std::optional<py::array_t<std::uint32_t, py::array::c_style>>& rows,
                       const std::optional<py::array_t<float, py::array::c_style>>& weights, std::size_t max_tokens,
                       std::size_t max_code_points, bool normalize, std::optional<std::uint32_t> dropped_token,
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
           py::arg("max_code_points") = 64 * 512, py::arg("normalize") = true, py::arg("dropped_token") = py::none(),
           py::arg("surface_features") = std::vector<std::string>{}, py::arg("isa") = py::none())
      .def_property_readonly("dim", &StaticEmbedder::dim)
      .def_property_readonly("max_code_points",
                             [](const StaticEmbedder& self) { return self.options().max_code_points; })
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
          [](const StaticEmbedder& self, const py::sequence& texts) {
            const TextBatch batch(texts, self.options().max_code_points);
            FloatArray out = make_floats(batch.views().size(), self.dim());
            float* row = out.mutable_data();
            const MaybeUnlock unlock(batch.bytes());
            for (const std::string_view text : batch.views()) {
              self.embed(text, row);
              row += self.dim();
            }
            return out;
          },
          py::arg("texts"), "(n, dim) float32.")
      .def(
          "embed_ids",
          [](const StaticEmbedder& self, const std::vector<std::vector<std::uint32_t>>& ids,
             const py::sequence& texts) {
            const TextBatch batch(texts, self.options().max_code_points);
            if (ids.size() != batch.views().size()) {
              throw Error(ErrorCode::kInvalidArgument, std::to_string(ids.size()) + " id lists for " +
                                                           std::to_string(batch.views().size()) + " texts.");
            }
            FloatArray out = make_floats(ids.size(), self.dim());
            float* row = out.mutable_data();
            const MaybeUnlock unlock(batch.bytes());
            for (std::size_t i = 0; i < ids.size(); ++i) self.embed_ids(ids[i], batch.views()[i], row + i * self.dim());
            return out;
          },
          py::arg("ids"), py::arg("texts"), "The same from token ids found elsewhere.");
}

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
            const TextBatch batch(texts, self.embedder().options().max_code_points);
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

std::size_t checked_key_count(const py::bytes& keys) {
  const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(keys.ptr()));
  if (size % EmbeddingCache::kKeyBytes != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "keys must be 16 bytes each, one after another, found " + std::to_string(size) + " bytes.");
  }
  return size / EmbeddingCache::kKeyBytes;
}

const std::uint8_t* key_bytes(const py::bytes& keys) {
  return reinterpret_cast<const std::uint8_t*>(PyBytes_AS_STRING(keys.ptr()));
}

// One row a key: the caller's own array, never a copy.
FloatArray rows_for_keys(py::handle value, std::size_t count, std::size_t dim, const char* what) {
  FloatArray rows = floats(value, 2, dim, what);
  if (static_cast<std::size_t>(rows.shape(0)) != count) {
    throw Error(ErrorCode::kInvalidEmbedding, std::string(what) + " must have one row a key: found " +
                                                  std::to_string(rows.shape(0)) + " rows for " + std::to_string(count) +
                                                  " keys.");
  }
  return rows;
}

void bind_embedding_cache(py::module_& m) {
  py::class_<EmbeddingCache>(m, "EmbeddingCache",
                             "Least-recently-used float32 vectors by 16-byte keys, bounded in bytes. Thread-safe.")
      .def(py::init<std::size_t, std::size_t, std::size_t>(), py::arg("dim"), py::arg("capacity_bytes"),
           py::arg("shards") = 16)
      .def_property_readonly("dim", &EmbeddingCache::dim)
      .def_property_readonly("capacity_bytes", &EmbeddingCache::capacity_bytes)
      .def_property_readonly("bytes_used", &EmbeddingCache::bytes_used)
      .def("__len__", &EmbeddingCache::size)
      .def(
          "get_many",
          [](EmbeddingCache& self, const py::bytes& keys, const py::object& out) {
            const std::size_t count = checked_key_count(keys);
            FloatArray rows = rows_for_keys(out, count, self.dim(), "out");
            if (!rows.writeable())
              throw Error(ErrorCode::kInvalidArgument, "out must be writable, found a read-only array.");
            py::array_t<bool> hit(static_cast<py::ssize_t>(count));
            float* target = rows.mutable_data();
            bool* found = hit.mutable_data();
            {
              const MaybeUnlock unlock(count * self.dim() * sizeof(float));
              self.get_many(key_bytes(keys), count, target, found);
            }
            return hit;
          },
          py::arg("keys"), py::arg("out"),
          "(n,) bool: True where row i of out, (n, dim) float32, now holds the vector of key i. Other rows stay as "
          "they are.")
      .def(
          "put_many",
          [](EmbeddingCache& self, const py::bytes& keys, const py::object& vectors) {
            const std::size_t count = checked_key_count(keys);
            const FloatArray rows = rows_for_keys(vectors, count, self.dim(), "vectors");
            const float* source = rows.data();
            const MaybeUnlock unlock(count * self.dim() * sizeof(float));
            self.put_many(key_bytes(keys), count, source);
          },
          py::arg("keys"), py::arg("vectors"), "Keeps row i of vectors, (n, dim) float32, under key i.")
      .def(
          "stats",
          [](const EmbeddingCache& self) {
            const EmbeddingCacheStats stats = self.stats();
            py::dict result;
            result["hits"] = stats.hits;
            result["misses"] = stats.misses;
            result["evictions"] = stats.evictions;
            result["entries"] = stats.entries;
            result["bytes_used"] = stats.bytes_used;
            return result;
          },
          "hits, misses, evictions, entries, bytes_used.");
}

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// One value for each of `count`, of exactly this type.
template <typename T>
std::span<const T> column(py::handle value, std::size_t count, const char* what) {
  const bool fits = Array<T>::check_(value) && py::reinterpret_borrow<Array<T>>(value).ndim() == 1 &&
                    static_cast<std::size_t>(py::reinterpret_borrow<Array<T>>(value).shape(0)) == count;
  if (!fits) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what) + " must be a C-contiguous array of " +
                                                 py::str(py::dtype::of<T>()).cast<std::string>() + " (" +
                                                 std::to_string(count) + ",), found " + describe(value) + ".");
  }
  return span_of(py::reinterpret_borrow<Array<T>>(value));
}

std::size_t length_of(py::handle value) {
  return py::isinstance<py::array>(value) ? static_cast<std::size_t>(py::reinterpret_borrow<py::array>(value).size())
                                          : 0;
}

// A float32 matrix as it is, and what keeps it alive: an array may be let go on a thread without the interpreter's
// lock.
FloatArray matrix(py::handle value, const char* what) {
  if (!FloatArray::check_(value) || py::reinterpret_borrow<FloatArray>(value).ndim() != 2) {
    throw Error(
        ErrorCode::kInvalidEmbedding,
        std::string(what) + " must be a float32 C-contiguous array of two dimensions, found " + describe(value) + ".");
  }
  return py::reinterpret_borrow<FloatArray>(value);
}

std::shared_ptr<const void> keep_alive(const py::object& object) {
  return {object.inc_ref().ptr(), [](const void* pointer) {
            const py::gil_scoped_acquire lock;
            Py_DECREF(static_cast<PyObject*>(const_cast<void*>(pointer)));
          }};
}

RefitSolver parse_solver(const std::string& name) {
  if (name == "exact") return RefitSolver::kExact;
  if (name == "routellm") return RefitSolver::kRouteLlm;
  throw Error(ErrorCode::kInvalidArgument, R"(solver must be "exact" or "routellm", found ")" + name + "\".");
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

void bind_rankings(py::module_& m) {
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
             cells.reserve(count);
             for (std::size_t c = 0; c < count; ++c) cells.push_back({a[c], b[c], outcomes[c], counts[c]});
             return std::make_shared<TierRefit>(num_tiers, std::move(cells), strong_tier, weak_tier,
                                                parse_solver(solver));
           }),
           py::arg("num_tiers"), py::arg("side_a"), py::arg("side_b"), py::arg("outcome"), py::arg("battles"),
           py::kw_only(), py::arg("strong_tier"), py::arg("weak_tier"), py::arg("solver") = "exact");
}

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
             repeats.reserve(repeat_count);
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

}  // namespace
}  // namespace routellm_fast

PYBIND11_MODULE(_core, m) {
  using namespace routellm_fast;  // NOLINT(google-build-using-namespace): the module's own names
  m.doc() = "Compiled core of routellm-fast.";
  m.attr("__version__") = ROUTELLM_FAST_VERSION;
  py::register_local_exception_translator(&translate);

  m.def(
      "active_isa", [] { return std::string(isa_name(active_isa())); },
      "The kernel tier in use: the best that runs here, or the one that ROUTELLM_FAST_ISA names.");
  m.def(
      "supported_isas",
      [] {
        std::vector<std::string> names;
        for (const Isa isa : supported_isas()) names.emplace_back(isa_name(isa));
        return names;
      },
      "The kernel tiers that this machine and build can run, from scalar to best.");
  bind_tokenizer(m);
  bind_static_embedder(m);
  bind_linear(m);
  bind_folding(m);
  bind_embedding_cache(m);
  bind_rankings(m);
  bind_similarity(m);
}
