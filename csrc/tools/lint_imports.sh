#!/bin/sh
# Checks imports against .importlinter; lint-imports and its Python must be on PATH.
set -eu
cd "$(dirname "$0")/../.."

# The package as it ships: export/ within it, and the extension as a module that can be imported.
tree=build/lint-imports
rm -rf "$tree"
mkdir -p "$tree"
cp -R routellm_fast recipes benchmarks "$tree"
cp -R export "$tree/routellm_fast/export"
cp routellm_fast/_core.pyi "$tree/routellm_fast/_core.py"
# -S leaves out the import hook of an editable installation, which would find the checkout in place of this tree.
site=$(python -c 'import importlinter, pathlib; print(pathlib.Path(importlinter.__file__).parents[1])')
cd "$tree"
PYTHONPATH="$site:../../csrc/tools" python -S "$(command -v lint-imports)" --no-cache --no-logo ../../.importlinter
