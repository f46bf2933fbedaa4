#!/bin/sh
# Configures, builds and runs the C++ tests of a CMake preset: run.sh core|asan|tsan [folder of cmake and ninja]
# BUILD_ONLY=1 leaves out the last.
set -eu
preset=$1
[ $# -gt 1 ] && PATH="$(cd "$2" && pwd):$PATH"
cd "$(dirname "$0")/../.."

if ! sh csrc/tools/doctest.sh; then
  [ -z "${BUILD_ONLY:-}" ] || exit 0
  echo "The C++ tests were NOT run: they need doctest's header (Debian: apt-get install doctest-dev)." >&2
  exit "${ROUTELLM_FAST_CPP_TESTS_REQUIRED:-0}"
fi
sh csrc/tools/configure.sh "$preset"
cmake --build --preset "$preset"
[ -n "${BUILD_ONLY:-}" ] || ctest -j 2 --preset "$preset"
