"""Documents say what is so: their ```console and ```python blocks run, in order; mypy accepts the python blocks.

test_document_snippets.py checks all other code of the documents.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.cli import main
from tests.support.builders import bert_router
from tests.support.document_samples import write_samples
from tests.support.fake_judge import FakeJudge

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
]
# A block may stand in a list item, as far to the right as its text.
FENCE = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
EXTRAS = {
    "docs/adapt.md": ("openai",),
    "docs/embedding-servers.md": ("openai",),
    "docs/export.md": ("onnx", "onnxruntime"),
    "docs/from-routellm.md": ("openai",),
    "docs/quality.md": ("torch", "matplotlib", "openai"),
    "docs/pool.md": ("torch",),
    "docs/triton.md": ("tritonclient",),
}


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def blocks_of(document: str) -> list[tuple[str, str]]:
    """Language and text of each block of code, in order."""
    return [(language, textwrap.dedent(block)) for _, language, block in FENCE.findall(text_of(document))]


def python_of(document: str) -> str:
    return "\n".join(block for language, block in blocks_of(document) if language == "python")


def commands_of(block: str) -> list[list[str]]:
    commands = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [command for command in commands if command]


@pytest.mark.parametrize(
    "document",
    [name for name in DOCUMENTS if {"python", "console"} & {language for language, _ in blocks_of(name)}],
)
def test_what_a_document_shows_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in EXTRAS.get(document, ()):
        pytest.importorskip(module)
    write_samples(tmp_path)
    if "my-bert" in python_of(document):  # training one takes minutes
        bert_router().save(tmp_path / "my-bert")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with FakeJudge() as judge:
        monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests-own")
        for language, block in blocks_of(document):
            if language == "python":
                exec(compile(block, document, "exec"), names)
            elif language == "console":
                for command in commands_of(block):
                    assert command[0] == "routellm-fast"
                    assert main(command[1:]) == 0, shlex.join(command)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    folder = (REPOSITORY / document).parent
    links = [link for link in LINK.findall(text_of(document)) if "://" not in link]
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_picture_shows_the_contract_of_imports() -> None:
    drawn = runpy.run_path(str(REPOSITORY / "docs" / "architecture.py"))
    assert (REPOSITORY / "docs" / "architecture.svg").read_text(encoding="utf-8") == drawn["draw"]()
    folders = {path.name for path in (REPOSITORY / "csrc").iterdir() if path.is_dir()} - {"tests", "fuzz", "tools"}
    assert {name for layer in drawn["CORE"] for name, _ in layer} == folders


def mypy(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict on files as a user of the package does."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(REPOSITORY / "pyproject.toml")]
    cache = REPOSITORY / ".mypy_cache" / "documents"
    command += ["--cache-dir", str(cache), "--no-error-summary", "--hide-error-context", *map(str, files)]
    environment = {**os.environ, "MYPYPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_a_type_checker_accepts_what_documents_show(tmp_path: Path) -> None:
    files = []
    for document in DOCUMENTS:
        if code := python_of(document):
            files.append(tmp_path / f"page_{document.replace('/', '_').replace('-', '_').removesuffix('.md')}.py")
            files[-1].write_text(code, encoding="utf-8")
    assert len(files) >= 6
    found = mypy(tmp_path, *files)
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_type_checker_knows_routers_and_refuses_slips(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(
        """
from pathlib import Path

import routellm_fast as rf
from routellm_fast.routers import (
    BertRouter, CausalLLMRouter, MatrixFactorizationRouter, RandomRouter, SimilarityWeightedRouter,
)

shipped: MatrixFactorizationRouter = rf.load_router()
named: MatrixFactorizationRouter = rf.load_router("mf", weak_model="w")
mf: MatrixFactorizationRouter = rf.load_router(Path("a"), kind="mf", strong_model="s")
small: SimilarityWeightedRouter = rf.load_router("sw_ranking")
also: SimilarityWeightedRouter = rf.load_router(kind="sw_ranking")
sw: SimilarityWeightedRouter = rf.load_router("b", kind="sw_ranking", device="cpu")
bert: BertRouter = rf.load_router("c", kind="bert", device="cuda", threads=2, optimized_cache="d")
llm: CausalLLMRouter = rf.load_router("e", kind="causal_llm", device="cuda:1", dtype="bfloat16", batch_size=4)
dice: RandomRouter = rf.load_router("f", kind="random")
some: rf.Router = rf.load_router("g", device="cpu", threads=2)


def any_kind(path: str) -> rf.Router:
    return rf.load_router(path, weak_model="w")
""",
        encoding="utf-8",
    )
    found = mypy(tmp_path, good)
    assert found.returncode == 0, found.stdout + found.stderr
    slips = [
        'rf.load_router("a", devic="cpu")',
        'rf.load_router("a", kind="bert", devic="cpu")',
        'rf.load_router("a", kind="mf", threads=2)',
        'rf.load_router("a", kind="bert", dtype="float16")',
        'rf.load_router("a", kind="bert", device="gpu")',
        'rf.load_router(strong_modell="s")',
        'rf.load_router(kind="bert")',
        'rf.load_router("a").model_names',
    ]
    bad = tmp_path / "bad.py"
    bad.write_text("import routellm_fast as rf\n" + "\n".join(slips) + "\n", encoding="utf-8")
    lines = {int(line.split(":")[1]) for line in mypy(tmp_path, bad).stdout.splitlines() if " error: " in line}
    assert [slip for number, slip in enumerate(slips, 2) if number not in lines] == []
