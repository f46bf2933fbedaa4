#!/bin/sh
# Builds the libFuzzer targets of the core and runs each for SECONDS_EACH (default 30), then the same for the Python readers:
# run.sh FOLDER, where FOLDER holds cmake, ninja and a python with the package and atheris. SEED (default 1) makes a run repeat
# itself; SEED=0 draws a new one, for a hunt.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
cd "$(dirname "$0")/../.."
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
for target in build/fuzz/csrc/fuzz/fuzz_*; do
  [ -x "$target" ] && [ -f "$target" ] || continue
  corpus="build/fuzz/corpus/$(basename "$target")"
  mkdir -p "$corpus"
  "$target" -seed="${SEED:-1}" -max_total_time="${SECONDS_EACH:-30}" -max_len=4096 -print_final_stats=1 -verbosity=0 "$corpus"
done
mkdir -p build/fuzz/corpus/readers
python tests/fuzz/fuzz_readers.py -seed="${SEED:-1}" -max_total_time="${SECONDS_EACH:-30}" -verbosity=0 build/fuzz/corpus/readers
