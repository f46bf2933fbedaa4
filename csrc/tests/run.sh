#!/bin/sh
# Configures, builds and runs the C++ tests of a CMake preset: run.sh core|asan|tsan [folder of cmake and ninja]
set -eu
preset=$1
[ $# -gt 1 ] && PATH="$(cd "$2" && pwd):$PATH"
cd "$(dirname "$0")/../.."

if [ ! -e /usr/include/doctest/doctest.h ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -qq -y doctest-dev; } >/dev/null 2>&1 || true
fi
if [ ! -e /usr/include/doctest/doctest.h ]; then
  echo "The C++ tests were NOT run: they need doctest (Debian: apt-get install doctest-dev)." >&2
  exit "${ROUTELLM_FAST_CPP_TESTS_REQUIRED:-0}"
fi
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"
ctest --preset "$preset"
