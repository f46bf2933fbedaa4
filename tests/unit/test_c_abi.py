from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from routellm_fast import _core, load_router
from routellm_fast.c_abi import c_abi
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from tests.support.processes import assert_refused, run_cli

REPOSITORY = Path(__file__).resolve().parents[2]

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def test_info_says_where_the_c_library_is() -> None:
    lines = dict(line.split(": ", 1) for line in run_cli("info", "--c-abi").stdout.splitlines())
    facts = json.loads(run_cli("info", "--c-abi", "--json").stdout)
    assert lines == facts
    for key in ("library", "header", "include", "cmake", "pkgconfig", "shipped router"):
        assert Path(facts[key]).exists(), key
    assert Path(facts["shipped router"]) == SHIPPED_ROUTER
    assert (Path(facts["cmake"]) / "routellm_fast-config.cmake").is_file()
    assert f"Version: {_core.__version__}" in (Path(facts["pkgconfig"]) / "routellm_fast.pc").read_text()


def test_the_c_library_is_no_matter_of_one_router() -> None:
    assert_refused(run_cli("info", "mf", "--c-abi"), "--c-abi", "leave out ROUTER")
    assert_refused(run_cli("info", "--verify", "--c-abi"), "--c-abi", "--verify")


def test_an_installation_without_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "__file__", str(tmp_path / "_core.so"))
    with pytest.raises(InvalidArgumentError, match="no C library in .*install routellm-fast again"):
        c_abi()


def test_the_header_in_the_package_is_the_repository_s() -> None:
    assert c_abi().header.read_bytes() == (REPOSITORY / "csrc" / "c_abi" / "include" / "routellm_fast.h").read_bytes()


@needs_cc
@pytest.mark.parametrize("language", ["-xc -std=c99", "-xc -std=c23", "-xc++ -std=c++11"])
def test_the_header_compiles_alone(language: str) -> None:
    flags = [*language.split(), "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    probe = subprocess.run(["cc", *flags, "-"], input="int one;", capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"this compiler does not know {language}")
    subprocess.run(["cc", *flags, str(c_abi().header)], check=True)


@needs_cc
@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="there is no pkg-config")
def test_a_program_linked_by_pkg_config_finds_the_library(tmp_path: Path) -> None:
    environment = {**os.environ, "PKG_CONFIG_PATH": str(c_abi().pkgconfig)}
    environment.pop("LD_LIBRARY_PATH", None)
    asked = ["pkg-config", "--cflags", "--libs", "routellm_fast"]
    flags = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    source, program = REPOSITORY / "examples" / "c" / "route.c", tmp_path / "route"
    subprocess.run(["cc", "-std=c99", "-o", str(program), str(source), *shlex.split(flags)], check=True)
    prompts = REPOSITORY / "examples" / "prompts.txt"
    command = [program, SHIPPED_ROUTER, prompts]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")  # 127 without an rpath
    assert len(run.stdout.splitlines()) == len(prompts.read_text().splitlines())


@needs_cc
def test_the_page_s_program_runs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "c-abi.md").read_text()
    (program,) = re.findall(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "page.c").write_text(program.replace("routers/mf", str(SHIPPED_ROUTER)))
    found = c_abi()
    flags = [*shlex.split(found.compile_flags), *shlex.split(found.link_flags)]
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "page"), str(tmp_path / "page.c")]
    subprocess.run([*command, *flags], check=True)
    run = subprocess.run([str(tmp_path / "page")], capture_output=True, text=True, check=True)
    router = load_router()
    threshold = router.threshold_for(0.3)
    assert run.stdout == router.route("Prove that there are infinitely many primes.", threshold).model + "\n"
