#!/bin/sh
# Builds the libFuzzer targets of the core and runs each for SECONDS_EACH (default 30), then the same for the Python readers:
# run.sh FOLDER, where FOLDER holds cmake, ninja and a python with the package and atheris. SEED (default 1) makes a run repeat
# itself; SEED=0 draws a new one, for a hunt.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
cd "$(dirname "$0")/../.."
sh csrc/tools/configure.sh fuzz
cmake --build --preset fuzz

# Two at a time: a fuzzer runs on one core. What one prints is shown when it has ended.
fuzz() { # name, program and its arguments
  name=$1
  shift
  mkdir -p "build/fuzz/corpus/$name"
  "$@" -seed="${SEED:-1}" -max_total_time="${SECONDS_EACH:-30}" -verbosity=0 "build/fuzz/corpus/$name" \
    >"build/fuzz/$name.log" 2>&1
}
core() { fuzz "$1" "build/fuzz/csrc/fuzz/$1" -max_len=4096 -print_final_stats=1; }
both() { # two commands, each one word and its argument
  failed=""
  "$1" "$2" &
  first=$!
  "$3" "$4" || failed="$4"
  wait "$first" || failed="$failed $2"
  cat "build/fuzz/$2.log" "build/fuzz/$4.log"
  [ -z "$failed" ] || { echo "failed: $failed" >&2; exit 1; }
}
readers() { fuzz "$1" python tests/fuzz/fuzz_readers.py; }
both core fuzz_json core fuzz_router_directory
both core fuzz_wordpiece_tokenizer readers readers
