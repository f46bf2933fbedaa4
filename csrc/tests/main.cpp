#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "base/error.hpp"
#include "dispatch/isa.hpp"

// NOLINTNEXTLINE(misc-const-correctness): the signature of main
int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // CTest's SKIP_RETURN_CODE: this machine lacks the tier that was asked for
  try {
    std::cout << "active instruction set: " << routellm_fast::isa_name(routellm_fast::active_isa()) << '\n';
  } catch (const routellm_fast::Error& error) {
    std::cout << error.what() << '\n';
    return error.code() == routellm_fast::ErrorCode::kUnsupportedIsa ? kSkipped : EXIT_FAILURE;
  }
  return doctest::Context(argc, argv).run();
}
