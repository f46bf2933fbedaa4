#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "embed/embedding_cache.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"

namespace routellm_fast {
namespace {

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
  if (std::cmp_not_equal(rows.shape(0), count)) {
    throw Error(ErrorCode::kInvalidEmbedding, std::string(what) + " must have one row a key: found " +
                                                  std::to_string(rows.shape(0)) + " rows for " + std::to_string(count) +
                                                  " keys.");
  }
  return rows;
}

}  // namespace

void bind_embedding_cache(const py::module_& m) {
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

}  // namespace routellm_fast
