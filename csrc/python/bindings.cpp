// The extension module; the subjects are in files of their own.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "dispatch/isa.hpp"
#include "python/errors.hpp"
#include "python/subjects.hpp"

namespace py = pybind11;

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
  bind_embedding_cache(m);
  bind_directory(m);
  bind_router(m);
  bind_building(m);
}
