#pragma once

#include <exception>

namespace routellm_fast {

/// Turns the core's Error into the Python class of its code.
void translate(std::exception_ptr pointer);

}  // namespace routellm_fast
