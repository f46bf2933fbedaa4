#!/bin/sh
# Installs the C library from a CMake build without Python, moves it, and builds examples/c against it by CMake and by pkg-config:
# check_install.sh BUILD FOLDER, where FOLDER is deleted and made anew. Needs cmake and ninja on the PATH.
set -eu
build="$(cd "$1" && pwd)"
root="$(pwd)/$2"
cd "$(dirname "$0")/../../.."
rm -rf "$root"
mkdir -p "$root/app"
cmake --install "$build" --prefix "$root/first" >/dev/null
mv "$root/first" "$root/installed" # it must work at another path

cat >"$root/app/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.22)
project(app LANGUAGES C)
find_package(routellm_fast 0.1 REQUIRED)
add_executable(route $(pwd)/examples/c/route.c)
target_link_libraries(route PRIVATE routellm_fast::routellm_fast)
CMAKE
cmake -S "$root/app" -B "$root/app/build" -G Ninja -DCMAKE_PREFIX_PATH="$root/installed" >/dev/null
cmake --build "$root/app/build" >/dev/null
"$root/app/build/route" routellm_fast/assets/mf examples/prompts.txt >"$root/by-cmake"
echo "found by CMake: $(wc -l <"$root/by-cmake") prompts routed"

if command -v pkg-config >/dev/null; then
  lib="$(dirname "$(find "$root/installed" -name 'libroutellm_fast.so')")"
  export PKG_CONFIG_PATH="$lib/pkgconfig"
  # shellcheck disable=SC2046 # one word a flag
  cc -std=c99 -o "$root/app/route" examples/c/route.c $(pkg-config --cflags --libs routellm_fast)
  # Without LD_LIBRARY_PATH, as a user starts it.
  "$root/app/route" routellm_fast/assets/mf examples/prompts.txt >"$root/by-pkg-config"
  cmp "$root/by-pkg-config" "$root/by-cmake"
  echo "found by pkg-config: the same"
fi
