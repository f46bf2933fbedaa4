#!/bin/sh
# A gateway in front of a real language model, on this machine alone: run_gateway.sh FOLDER MODELS, where FOLDER holds routellm-fast (extra
# `serve`) and its python, and MODELS is the environment that `make models-env` makes. It serves examples/gateway.yaml on PORT
# (6060), asks two questions, and goes on until ^C; with ONCE=1 it ends after the answers.
set -eu
bin="$(cd "$1" && pwd)"
models="$(cd "$2" && pwd)"
port="${PORT:-6060}"
cd "$(dirname "$0")"
out="$(mktemp -d)"
mkfifo "$out/open" # the model's server ends when this is closed
model= gateway=
finish() {
  [ -z "$gateway" ] || kill "$gateway" 2>/dev/null || true
  exec 9>&-
  wait || true
  rm -rf "$out"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ready COMMAND...: waits, for two minutes at most, until the command succeeds.
ready() {
  tries=0
  until "$@" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || { echo "not ready in time: $*" >&2; cat "$out"/*.log >&2; exit 1; }
    sleep 0.1
  done
}

# Both models are one small model under two names: what is shown is the way, not the difference.
"$models/bin/python" ../tests/support/small_model_server.py smollm2-135m,smollm2-135m-brief "$out/address" \
  <"$out/open" >"$out/model.log" 2>&1 &
model=$!
exec 9>"$out/open"
ready test -s "$out/address"
sed "s|http://127.0.0.1:8080|$(cat "$out/address")|" gateway.yaml >"$out/gateway.yaml"

"$bin/routellm-fast" serve --config "$out/gateway.yaml" --port "$port" 2>"$out/gateway.log" &
gateway=$!
ask() {
  "$bin/python" - "$port" "$@" <<'PYTHON'
import json
import sys
import urllib.request

port, *prompts = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
if not prompts:
    opener.open(f"http://127.0.0.1:{port}/ready").close()
for prompt in prompts:
    body = {"model": "auto", "max_tokens": 60, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with opener.open(request) as answer:
        text = json.load(answer)["choices"][0]["message"]["content"]
        model, win_rate = answer.headers["x-routellm-model"], float(answer.headers["x-routellm-win-rate"])
    print(f"{prompt}\n  {model}, as the strong model's win rate is {win_rate:.2f}:\n  {' '.join(text.split())}\n")
PYTHON
}
alive_and_ready() { kill -0 "$gateway" && ask; }
ready alive_and_ready
ask "What is the opposite of hot?" \
  "Write a Python function that parses ISO 8601 dates with time zones and write unit tests for it."
if [ "${ONCE:-}" != 1 ]; then
  echo "The gateway is at http://127.0.0.1:$port, until ^C."
  wait "$gateway"
fi
