#!/bin/sh
# Makes, or brings up to date, an environment with RouteLLM 0.2.0 itself and LiteLLM: routellm-env.sh FOLDER [python].
# It borrows the large libraries (torch, transformers, datasets, pandas, ...) and this package from the environment of
# that python, which is left as it is, so that it takes seconds and 0.1 GB.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [python]" >&2; exit 2; }
folder=$1
python=${2:-python3}

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
lent="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
own="$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
# Also what stands in .pth files there, such as this package where it is installed in place.
echo "import site; site.addsitedir('$lent')" >"$own/borrowed.pth"
pip() { command "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# Where LiteLLM needs another version of a borrowed library, pip says that it leaves the borrowed one where it is.
pip --no-compile 'litellm>=1.60' 2>"$folder/pip.log" || { cat "$folder/pip.log" >&2; exit 1; }
pip --no-compile --no-deps routellm==0.2.0
