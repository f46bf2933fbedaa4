#pragma once

#include <pybind11/pybind11.h>

namespace routellm_fast {

// One function a subject, each in bind_<subject>.cpp. A bound function does five things in this order: take the
// arguments without silent copies, check them, make the output, release the interpreter's lock where the work outweighs
// that, call the core. No algorithm lives here.

void bind_tokenizer(pybind11::module_& m);
void bind_static_embedder(pybind11::module_& m);
void bind_embedding_cache(const pybind11::module_& m);
void bind_directory(pybind11::module_& m);
void bind_router(pybind11::module_& m);
void bind_building(pybind11::module_& m);

}  // namespace routellm_fast
