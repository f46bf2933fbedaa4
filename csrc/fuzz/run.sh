#!/bin/sh
# Builds the libFuzzer targets of the core and runs them and those of the Python readers, two at a time: a fuzzer runs on one core.
# run.sh FOLDER [hunt|replay|merge], where FOLDER holds cmake, ninja and a python with the package and atheris.
#
#   hunt    (the default) runs each target for SECONDS_EACH (default 30) from the inputs of csrc/fuzz/corpus/ on. New ones go to
#           build/fuzz/corpus/. SEED (default 1) makes a run repeat itself; SEED=0 draws a new one.
#   replay  runs the inputs of csrc/fuzz/corpus/ once: a test that takes seconds.
#   merge   takes what hunts have found into csrc/fuzz/corpus/, as few inputs as reach the same. Those named found-* stay.
#
# TARGETS names the targets, e.g. "fuzz_json fuzz_utf8"; without it all run.
set -eu
PATH="$(cd "$1" && pwd):$PATH"
mode=${2:-hunt}
cd "$(dirname "$0")/../.."
sh csrc/tools/configure.sh fuzz
cmake --build --preset fuzz
targets=${TARGETS:-$(sed -n 's/^fuzzer(\([a-z0-9_]*\).*/fuzz_\1/p' csrc/fuzz/CMakeLists.txt) fuzz_readers fuzz_records}

# Entropic scheduling, libFuzzer's default, would take more time than the targets. Leaks are found when a target ends.
export FUZZ_FLAGS="-entropic=0 -detect_leaks=0 -timeout=20 -verbosity=0 -print_final_stats=1 -max_len=${MAX_LEN:-512} -artifact_prefix=build/fuzz/"
case $mode in
  hunt) FUZZ_FLAGS="$FUZZ_FLAGS -seed=${SEED:-1} -max_total_time=${SECONDS_EACH:-30}" ;;
  replay) FUZZ_FLAGS="$FUZZ_FLAGS -runs=0" ;;
  merge) FUZZ_FLAGS="$FUZZ_FLAGS -set_cover_merge=1" ;;
  *) echo "run.sh hunts, replays or merges; found $mode" >&2; exit 2 ;;
esac

# What a target prints is shown when it has ended.
MODE=$mode
export MODE
# shellcheck disable=SC2016 # the inner shell expands
printf '%s\n' $targets | xargs -P 2 -I TARGET sh -c '
  target=TARGET
  found=build/fuzz/corpus/$target
  kept=csrc/fuzz/corpus/$target
  mkdir -p "$found" "$kept"
  program=build/fuzz/csrc/fuzz/$target
  [ ! -f "tests/fuzz/$target.py" ] || program="python tests/fuzz/$target.py"
  case $MODE in
    hunt) corpora="$found $kept" ;;
    replay) corpora=$kept ;;
    merge) rm -rf "$found.merged"; mkdir "$found.merged"; corpora="$found.merged $kept $found" ;;
  esac
  status=0
  $program $FUZZ_FLAGS $corpora >"build/fuzz/$target.log" 2>&1 || status=$?
  if [ "$MODE" = merge ] && [ "$status" = 0 ]; then
    find "$kept" -name "found-*" -exec cp {} "$found.merged/" \;
    rm -rf "$kept"
    mv "$found.merged" "$kept"
  fi
  printf "=== %s\n" "$target"
  if [ "$status" = 0 ]; then
    grep -E "number_of_executed_units|average_exec_per_sec|MERGE-OUTER: [0-9]* new" "build/fuzz/$target.log" || true
  else
    tail -n 60 "build/fuzz/$target.log"
    exit 1
  fi'
