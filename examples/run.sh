#!/bin/sh
# Builds and runs the examples in other languages, and compares what they print with `routellm-fast route`:
# run.sh FOLDER, where FOLDER holds routellm-fast and its python. A language without a compiler on this machine is skipped, and named;
# EXAMPLES_REQUIRED="c go rust" makes that a failure for those named.
set -eu
bin="$(cd "$1" && pwd)"
cd "$(dirname "$0")"
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

fact() { "$bin/routellm-fast" info --c-abi --json | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
router="$(fact 'shipped router')"
compile_flags="$(fact 'compile flags')"
link_flags="$(fact 'link flags')"
lib="$(dirname "$(fact library)")"

"$bin/routellm-fast" route --file prompts.txt --format text --strong-share 0.3 --jsonl | "$bin/python" -c '
import json, sys
for line in sys.stdin:
    found = json.loads(line)
    print("{:.7f}\t{}\t{}".format(found["win_rate"], found["model"], found["prompt"]))' >"$out/expected"

check() { # language, program
  "$2" "$router" prompts.txt >"$out/$1"
  if ! cmp -s "$out/expected" "$out/$1"; then
    echo "examples/$1 prints something else than routellm-fast route:" >&2
    diff "$out/expected" "$out/$1" >&2 || true
    exit 1
  fi
  echo "examples/$1: as routellm-fast route, $(wc -l <"$out/$1") prompts"
}

skip() { # language, compiler
  case " ${EXAMPLES_REQUIRED:-} " in
    *" $1 "*) echo "examples/$1 needs $2, which is not there" >&2; exit 1 ;;
  esac
  echo "examples/$1: NOT run, there is no $2"
}

# The flags are several words, quoted for a shell.
if command -v cc >/dev/null; then
  eval "cc -std=c99 -Wall -Wextra -Werror -O2 $compile_flags -o '$out/route-c' c/route.c $link_flags"
  check c "$out/route-c"
else
  skip c cc
fi
if command -v go >/dev/null; then
  (cd go && CGO_ENABLED=1 CGO_CFLAGS="$compile_flags" CGO_LDFLAGS="$link_flags" GOFLAGS=-mod=mod GOCACHE="$out/go-cache" \
    go build -o "$out/route-go" .)
  check go "$out/route-go"
else
  skip go go
fi
if command -v rustc >/dev/null; then
  rustc --edition 2021 -O -D warnings -L "$lib" -l routellm_fast -C "link-arg=-Wl,-rpath,$lib" -o "$out/route-rust" rust/main.rs
  check rust "$out/route-rust"
else
  skip rust rustc
fi
