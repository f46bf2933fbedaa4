#include "python/arguments.hpp"

#include <utility>

#include "dispatch/isa.hpp"
#include "dispatch/kernels.hpp"

namespace routellm_fast {

std::string describe(py::handle value) {
  if (!py::isinstance<py::array>(value)) return Py_TYPE(value.ptr())->tp_name;
  const auto array = py::reinterpret_borrow<py::array>(value);
  const auto shape = py::str(array.attr("shape")).cast<std::string>();
  const bool contiguous = (array.flags() & py::array::c_style) != 0;
  return py::str(array.dtype()).cast<std::string>() + " " + shape + (contiguous ? "" : ", not C-contiguous");
}

FloatArray floats(py::handle value, int ndim, std::size_t dim, const char* what) {
  const bool fits = FloatArray::check_(value) && py::reinterpret_borrow<FloatArray>(value).ndim() == ndim &&
                    std::cmp_equal(py::reinterpret_borrow<FloatArray>(value).shape(ndim - 1), dim);
  if (!fits) {
    const std::string extent = (ndim == 1 ? "(" : "(n, ") + std::to_string(dim) + (ndim == 1 ? ",)" : ")");
    throw Error(ErrorCode::kInvalidEmbedding, std::string(what) + " must be a float32 C-contiguous array of shape " +
                                                  extent + ", found " + describe(value) +
                                                  ". numpy.ascontiguousarray(x, dtype=numpy.float32) converts.");
  }
  return py::reinterpret_borrow<FloatArray>(value);
}

FloatArray matrix(py::handle value, const char* what) {
  if (!FloatArray::check_(value) || py::reinterpret_borrow<FloatArray>(value).ndim() != 2) {
    throw Error(
        ErrorCode::kInvalidEmbedding,
        std::string(what) + " must be a float32 C-contiguous array of two dimensions, found " + describe(value) + ".");
  }
  return py::reinterpret_borrow<FloatArray>(value);
}

FloatArray make_floats(std::size_t rows, std::size_t columns) {
  return FloatArray({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(columns)});
}

std::size_t length_of(py::handle value) {
  return py::isinstance<py::array>(value) ? static_cast<std::size_t>(py::reinterpret_borrow<py::array>(value).size())
                                          : 0;
}

std::shared_ptr<const void> keep_alive(const py::object& object) {
  return {object.inc_ref().ptr(), [](const void* pointer) {
            const py::gil_scoped_acquire lock;
            Py_DECREF(static_cast<PyObject*>(const_cast<void*>(pointer)));
          }};
}

const KernelTable& kernels_named(const std::optional<std::string>& isa) {
  return kernels(isa ? parse_isa(*isa) : active_isa());
}

}  // namespace routellm_fast
