#!/bin/sh
# All static checks, as CI runs them: lint.sh FOLDER, where FOLDER holds ruff, mypy, lint-imports, clang-format, clang-tidy, cmake, ninja and a
# python with pybind11. The checks run beside one another; the output of those that fail is shown at the end.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
cd "$(dirname "$0")/../.."
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
workers="$(getconf _NPROCESSORS_ONLN)"

# check NAME COMMAND...: starts it.
check() {
  name=$1
  shift
  { "$@" >"$logs/$name.log" 2>&1 || touch "$logs/$name.failed"; } &
}

# The largest files first, so that no worker is left with one of them at the end.
clang_tidy() {
  git ls-files 'csrc/*.cpp' | xargs ls -S | xargs -P "$workers" -n 1 clang-tidy --quiet -p build/tidy
}

cpp_files=$(git ls-files '*.cpp' '*.hpp' '*.h' '*.c')
# The compile commands name the tests, whose headers they need, and the extension.
sh csrc/tools/doctest.sh || { echo "lint needs doctest's header (Debian: apt-get install doctest-dev)" >&2; exit 1; }
sh csrc/tools/configure.sh tidy "-Dpybind11_DIR=$(python -m pybind11 --cmakedir)"

check clang-tidy clang_tidy
# shellcheck disable=SC2086 # one word a file
check clang-format clang-format --dry-run --Werror $cpp_files
check imports sh csrc/tools/lint_imports.sh
check ruff ruff check .
check ruff-format ruff format --check .
check mypy mypy
check stubtest python -m mypy.stubtest routellm_fast._core --mypy-config-file pyproject.toml \
  --allowlist csrc/tools/stubtest_allowlist.txt --ignore-unused-allowlist
wait

failed=""
for mark in "$logs"/*.failed; do
  [ -e "$mark" ] || continue
  name="$(basename "$mark" .failed)"
  failed="$failed $name"
  printf '\n=== %s\n' "$name"
  cat "$logs/$name.log"
done
[ -z "$failed" ] || { printf '\nfailed:%s\n' "$failed" >&2; exit 1; }
cat "$logs/mypy.log" "$logs/ruff.log"
