#include "python/errors.hpp"

#include <pybind11/pybind11.h>

#include <string_view>

#include "base/error.hpp"

namespace py = pybind11;

namespace routellm_fast {
namespace {

const char* python_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidEmbedding:
      return "InvalidEmbeddingError";
    case ErrorCode::kUnsupportedIsa:
      return "UnsupportedIsaError";
    case ErrorCode::kNotFound:
      return "ArtifactNotFoundError";
    case ErrorCode::kNewerVersion:
      return "ArtifactVersionError";
    case ErrorCode::kDamaged:
      return "ArtifactIntegrityError";
    case ErrorCode::kBadDirectory:
      return "ArtifactFormatError";
    case ErrorCode::kEmbedderMismatch:
      return "EmbedderMismatchError";
    case ErrorCode::kNoEmbedder:
      return "EmbedderUnavailableError";
    case ErrorCode::kOutOfMemory:
      return "ArtifactMemoryError";
    case ErrorCode::kInvalidArgument:
      break;
  }
  return "InvalidArgumentError";
}

}  // namespace

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature is pybind11's
void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("routellm_fast.errors").attr(python_name(error.code()));
    // A path may hold bytes that are no UTF-8; Python's own paths keep them so.
    const std::string_view text = error.what();
    PyObject* const message =
        PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
    if (message != nullptr) PyErr_SetObject(type.ptr(), py::reinterpret_steal<py::object>(message).ptr());
  }
}

}  // namespace routellm_fast
