#!/bin/sh
# Configures a CMake preset, with ccache where it is: configure.sh PRESET [options of cmake]
set -eu
cd "$(dirname "$0")/../.."
preset=$1
shift
if command -v ccache >/dev/null; then
  # The same file in two build folders is compiled once.
  export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}"
fi
cmake --preset "$preset" "$@" >/dev/null
