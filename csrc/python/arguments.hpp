// What the binding files share: arguments taken without silent copies, and checked with a message that says what was
// found and what was expected.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace routellm_fast {

struct KernelTable;

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using FloatArray = Array<float>;

/// Releases the interpreter's lock, where the work outweighs that. Releasing and taking it costs about 0.1
/// microseconds: for less work than this, other threads gain less than the caller loses.
class MaybeUnlock {
 public:
  static constexpr std::size_t kLeastBytes = 4096;

  explicit MaybeUnlock(std::size_t bytes) {
    if (bytes >= kLeastBytes) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

/// The type of an object and, of an array, its dtype and shape, for messages.
[[nodiscard]] std::string describe(py::handle value);

/// The array itself, never a converted copy. Throws Error(kInvalidEmbedding) for anything but a float32 C-contiguous
/// array of `ndim` dimensions whose last one is `dim`.
[[nodiscard]] FloatArray floats(py::handle value, int ndim, std::size_t dim, const char* what);

/// The same for two dimensions of any length.
[[nodiscard]] FloatArray matrix(py::handle value, const char* what);

[[nodiscard]] FloatArray make_floats(std::size_t rows, std::size_t columns);

/// Values of an array; 0 for what is none.
[[nodiscard]] std::size_t length_of(py::handle value);

/// Holds a reference to an object. It may be let go on any thread, also one without the interpreter's lock.
[[nodiscard]] std::shared_ptr<const void> keep_alive(const py::object& object);

/// The kernels of an instruction set; of the active one for none.
[[nodiscard]] const KernelTable& kernels_named(const std::optional<std::string>& isa);

template <typename T>
std::span<const T> span_of(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

/// One value for each of `count`, of exactly this type. Throws Error(kInvalidArgument).
template <typename T>
std::span<const T> column(py::handle value, std::size_t count, const char* what) {
  const bool fits = Array<T>::check_(value) && py::reinterpret_borrow<Array<T>>(value).ndim() == 1 &&
                    std::cmp_equal(py::reinterpret_borrow<Array<T>>(value).shape(0), count);
  if (!fits) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what) + " must be a C-contiguous array of " +
                                                 py::str(py::dtype::of<T>()).template cast<std::string>() + " (" +
                                                 std::to_string(count) + ",), found " + describe(value) + ".");
  }
  return span_of(py::reinterpret_borrow<Array<T>>(value));
}

}  // namespace routellm_fast
