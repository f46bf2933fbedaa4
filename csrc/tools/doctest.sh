#!/bin/sh
# Makes sure that doctest's header is there, for the C++ tests: exits with 1 where it cannot be had. Debian's package is unpacked
# below build/, which needs no root and leaves the system as it is; csrc/tests/CMakeLists.txt looks there too.
set -u
cd "$(dirname "$0")/../.."
folder=build/doctest

found() {
  [ -e $folder/usr/include/doctest/doctest.h ] ||
    echo '#include <doctest/doctest.h>' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null
}

found && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 1
mkdir -p $folder/lists/partial $folder/cache/archives/partial
cd $folder || exit 1
# Lists and cache of our own: the system's can be written by root only, and may be empty.
apt() { apt-get -qq -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" "$@"; }
{ apt update && apt download doctest-dev && dpkg -x doctest-dev_*.deb .; } >fetch.log 2>&1
cd ../.. && found
