from __future__ import annotations

import ast
import importlib.machinery
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import export
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
    "sqlite3",
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


def test_every_public_error_can_be_imported_from_the_package() -> None:
    """Wherever in the package a RouteLLMError is defined; private ones never leave their module."""
    bases: dict[str, set[str]] = {}
    for package in (routellm_fast, export):
        for file in Path(str(package.__file__)).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    errors = {"RouteLLMError"}
    while more := {name for name, of in bases.items() if of & errors} - errors:
        errors |= more
    public = {name for name in errors if not name.startswith("_")}
    assert {"ExportError", "TritonError", "ScoringError", "UnreachableTargetError"} < public
    assert public <= set(routellm_fast.__all__)
    for name in public:
        assert issubclass(getattr(routellm_fast, name), routellm_fast.RouteLLMError)


# --- without the compiled extension


def imported_from(folder: Path, extension: str = "") -> str:
    """The last line of what importing the package says, from a folder that holds a copy of its first modules.

    Where an extension is named, a file of this name stands in the package; it is none.
    """
    source = Path(routellm_fast.__file__).parent
    (folder / "routellm_fast").mkdir()
    for name in ("__init__.py", "_no_core.py"):
        shutil.copy(source / name, folder / "routellm_fast" / name)
    if extension:
        (folder / "routellm_fast" / extension).write_bytes(b"no extension at all")
    # Without site-packages: neither an editable install nor an installed package stands in.
    command = [sys.executable, "-S", "-E", "-B", "-c", "import routellm_fast"]
    run = subprocess.run(command, capture_output=True, cwd=folder, text=True, timeout=60)
    assert run.returncode == 1
    first, _, last = run.stderr.partition("The above exception was the direct cause of the following exception")
    line = last.strip().splitlines()[-1]
    # What Python itself said, is said again.
    assert first.strip().splitlines()[-1].partition(": ")[2] in line
    return line


def test_a_source_tree_without_the_extension_says_so(tmp_path: Path) -> None:
    (tmp_path / "csrc").mkdir()
    (tmp_path / "pyproject.toml").touch()
    told = imported_from(tmp_path)
    assert told.startswith(f"ImportError: Python found the source tree {tmp_path} in place of the installed package")
    assert "Start Python in another directory" in told
    assert told.endswith("No module named 'routellm_fast._core'")


def test_a_package_without_the_extension_says_so(tmp_path: Path) -> None:
    told = imported_from(tmp_path)
    assert f"extension of routellm-fast is missing from {tmp_path / 'routellm_fast'}" in told
    assert told.endswith("No module named 'routellm_fast._core'")


def test_an_extension_for_another_python_is_named(tmp_path: Path) -> None:
    name = "_core.cpython-38-another-machine.so"
    assert f"was built for another Python or machine ({name})" in imported_from(tmp_path, name)


def test_an_extension_that_does_not_load_shows_the_real_cause(tmp_path: Path) -> None:
    told = imported_from(tmp_path, f"_core{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    assert "is there but cannot be loaded" in told
    assert "missing" not in told


# --- in a sub-interpreter

_SUBINTERPRETER = """
import os, sys
try:
    import _interpreters  # Python 3.13
    new, run, configurations = _interpreters.create, _interpreters.run_string, ("isolated", "legacy")
except ImportError:
    import _xxsubinterpreters
    run, configurations = _xxsubinterpreters.run_string, (True, False)
    new = lambda isolated: _xxsubinterpreters.create(isolated=isolated)
code = '''
import os
try:
    import routellm_fast
    told = "imported"
except ImportError as error:
    told = f"ImportError: {error}"
os.write(1, (told.replace(chr(10), " ") + chr(10)).encode())
'''
for configuration in configurations:
    run(new(configuration), code)
import routellm_fast  # the main interpreter is none the worse
os.write(1, routellm_fast.load_router().kind.encode())
"""


def test_a_sub_interpreter_gets_an_import_error_at_once() -> None:
    run = run_python("-c", _SUBINTERPRETER, timeout_s=60)
    assert run.returncode == 0, run.stderr
    *told, kind = run.stdout.splitlines()
    assert kind == "mf"
    assert len(told) == 2
    for line in told:
        assert line.startswith("ImportError: routellm-fast runs in the main interpreter of a process only")
        assert "WSGIApplicationGroup %{GLOBAL}" in line
        assert "Install the package anew" not in line
