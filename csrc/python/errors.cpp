#include "python/errors.hpp"

#include <pybind11/pybind11.h>

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
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:  // these are of the C ABI's reader of directories; Python has its own
    case ErrorCode::kBadDirectory:
    case ErrorCode::kNoEmbedder:
      break;
  }
  return "InvalidArgumentError";
}

}  // namespace

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("routellm_fast.errors").attr(python_name(error.code()));
    py::set_error(type, error.what());
  }
}

}  // namespace routellm_fast
