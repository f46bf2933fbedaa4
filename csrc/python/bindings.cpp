// The extension module; the subjects are in files of their own.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "dispatch/isa.hpp"
#include "python/errors.hpp"
#include "python/subjects.hpp"

namespace py = pybind11;

namespace {

// routellm_fast/_no_core.py knows this error by the word subinterpreter, which Python's own message has too.
constexpr const char* kMainOnly = "routellm_fast._core does not run in a subinterpreter";

bool is_main_interpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

}  // namespace

// The module behind PyInit__core, which Python calls. Its own name is not seen: Python names a module as it imports it.
PYBIND11_MODULE(core_of_main_interpreter, m) {
  using namespace routellm_fast;  // NOLINT(google-build-using-namespace): the module's own names
  // From Python 3.13 on, PyInit__core is called in the main interpreter on behalf of all others.
  if (!is_main_interpreter()) throw py::import_error(kMainOnly);
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
  bind_embedding_cache(m);
  bind_directory(m);
  bind_router(m);
  bind_building(m);
}

// A sub-interpreter is refused before pybind11 is entered, which takes the lock of the main interpreter and would wait
// for it for ever: before Python 3.12, all interpreters share one lock, and the importing thread holds it.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {  // NOLINT(*-identifier*): Python's name
  if (!is_main_interpreter()) {
    PyErr_SetString(PyExc_ImportError, kMainOnly);
    return nullptr;
  }
  return PyInit_core_of_main_interpreter();
}
