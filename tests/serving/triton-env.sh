#!/bin/sh
# Makes, or brings up to date, an environment that runs a real Triton Inference Server and this package in its Python
# backend: triton-env.sh FOLDER [python [PACKAGE]]. PACKAGE is a wheel of this package, or "none" to leave it out;
# without it the package is compiled. Nothing outside the folder is changed. The server is that of nvidia-pytriton, of which
# only the files are used; it wants numpy 1, so the package is tested with that too.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [python [PACKAGE]]" >&2; exit 2; }
folder=$1
python=${2:-python3}
package="${3:-$(cd "$(dirname "$0")/../.." && pwd)}"
quiet="--quiet --disable-pip-version-check"

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
folder="$(cd "$folder" && pwd)"
# shellcheck disable=SC2086 # options are words
pip() { command "$folder/bin/python" -m pip install $quiet "$@"; }

# Without its dependencies: those of its Python side would be installed for nothing.
[ -n "$(find "$folder" -path '*pytriton/tritonserver/bin/tritonserver' -print -quit)" ] || pip --no-deps nvidia-pytriton==0.7.0
pip 'numpy<2' 'onnxruntime>=1.20' 'tokenizers>=0.20' 'safetensors>=0.4.3' 'typer>=0.15' 'rich>=13.7'
[ "$package" = none ] || pip --no-deps --force-reinstall "$package"

server="$(dirname "$(dirname "$(find "$folder" -path '*pytriton/tritonserver/bin/tritonserver' -print -quit)")")"
version="$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
stub="$server/python_backend_stubs/$version/triton_python_backend_stub"
[ -x "$stub" ] || { echo "nvidia-pytriton has no Python backend for Python $version" >&2; exit 1; }
# Links, as the libraries find one another from where they lie. The stub must lie beside the backend.
mkdir -p "$folder/backends/python"
ln -sf "$server/backends/python/libtriton_python.so" "$server/backends/python/triton_python_backend_utils.py" "$stub" \
  "$folder/backends/python/"
ln -sfn "$server/bin/tritonserver" "$folder/bin/tritonserver"
ln -sfn "$server/caches" "$folder/caches"
# This package's own backend, for mode native.
if [ "$package" != none ]; then
  cd / # the package that was installed, not one in the working directory
  native="$("$folder/bin/python" -c 'from routellm_fast.serving import triton_backend_directory as d; print(d())')"
  ln -sfn "$native/routellm" "$folder/backends/routellm"
fi
