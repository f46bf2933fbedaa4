from __future__ import annotations

import importlib.metadata

import routellm_fast
from tests.support.processes import run_python

HEAVY = [
    "torch",
    "transformers",
    "pandas",
    "sklearn",
    "openai",
    "fastapi",
    "tokenizers",
    "lmdb",
    "typer",
    "rich",
    "onnxruntime",
    "httpx",
    "aiohttp",
    "model2vec",
    "datasets",
    "tritonclient",
    "grpc",
]


def test_importing_loads_numpy_safetensors_and_the_extension_only() -> None:
    program = f"import routellm_fast, sys; print(sorted(set({HEAVY}) & set(sys.modules)))"
    assert run_python("-c", program).stdout.strip() == "[]"


def test_importing_opens_no_file_but_code_and_no_socket() -> None:
    program = """
import sys, numpy, safetensors.numpy
opened = []
def hook(event, arguments):
    if event.startswith("socket."):
        opened.append(event)
    if event == "open" and isinstance(arguments[0], str) and not arguments[0].endswith((".py", ".pyc", ".so", ".json")):
        opened.append(arguments[0])
sys.addaudithook(hook)
import routellm_fast
print([name for name in opened if "site-packages" not in name or "assets" in name])
"""
    assert run_python("-c", program).stdout.strip() == "[]"


def test_the_version_has_one_home() -> None:
    assert routellm_fast.__version__ == importlib.metadata.version("routellm-fast")


def test_every_public_name_exists_and_is_documented() -> None:
    for name in routellm_fast.__all__:
        assert getattr(routellm_fast, name).__doc__
