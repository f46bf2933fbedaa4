#!/bin/sh
# All static checks, as CI runs them: lint.sh FOLDER, where FOLDER holds ruff, mypy, lint-imports, clang-format,
# clang-tidy, cmake, ninja.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
cd "$(dirname "$0")/../.."

ruff check .
ruff format --check .
mypy
python -m mypy.stubtest routellm_fast._core --mypy-config-file pyproject.toml \
  --allowlist csrc/tools/stubtest_allowlist.txt --ignore-unused-allowlist
sh csrc/tools/lint_imports.sh
cpp_files=$(git ls-files '*.cpp' '*.hpp' '*.h' '*.c')
# shellcheck disable=SC2086 # one word a file
clang-format --dry-run --Werror $cpp_files
cmake --preset tidy >/dev/null
git ls-files 'csrc/*.cpp' ':!csrc/python' ':!csrc/tests' ':!csrc/fuzz' | xargs -P 2 -n 1 clang-tidy --quiet -p build/tidy
