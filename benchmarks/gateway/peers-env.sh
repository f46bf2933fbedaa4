#!/bin/sh
# Makes the environments of the gateways that ours stands beside, one for each: peers-env.sh FOLDER [python]. About 1 GB.
# RouteLLM's borrows large libraries, torch above all, from the environment of that python. A peer that cannot be
# installed is left out, and the report names it; what was said meanwhile is in FOLDER/PEER.log.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [python]" >&2; exit 2; }
folder=$1
python=${2:-python3}
here="$(dirname "$0")"
mkdir -p "$folder"

# peer NAME REQUIREMENT...: an environment with these packages and nothing else.
peer() {
  name=$1
  shift
  [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
  if ! "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2>"$folder/$name.log"; then
    echo "$name cannot be installed; $folder/$name.log says why" >&2
    rm -rf "${folder:?}/$name"
  fi
}

peer litellm 'litellm[proxy]==1.108.7'
peer tensorzero tensorzero==2026.6.0
if sh "$here/../../tests/controller/routellm-env.sh" "$folder/routellm" "$python" 2>"$folder/routellm.log"; then
  peer routellm fastapi shortuuid uvicorn
fi
