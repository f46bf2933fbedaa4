#pragma once

#include <cstdio>
#include <cstdlib>

namespace routellm_fast::fuzz {

/// Ends the process where something that must hold does not, so that the fuzzer keeps the input. `what` says what must
/// hold.
inline void require(bool condition, const char* what) {
  if (condition) return;
  (void)std::fprintf(stderr, "this must hold: %s\n", what);
  std::abort();
}

}  // namespace routellm_fast::fuzz
