"""Documents say what is so: their ```console and ```python blocks run, in order; blocks without a language do not."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.cli import main
from tests.support.document_samples import write_samples
from tests.support.fake_judge import FakeJudge

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
EXTRAS = {
    "docs/quality.md": ("torch", "matplotlib", "openai"),
    "docs/pool.md": ("torch",),
    "docs/triton.md": ("tritonclient",),
}


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def commands_of(block: str) -> list[list[str]]:
    commands = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [command for command in commands if command]


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if BLOCK.search(text_of(name))])
def test_what_a_document_shows_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in EXTRAS.get(document, ()):
        pytest.importorskip(module)
    write_samples(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with FakeJudge() as judge:
        monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests-own")
        for language, block in BLOCK.findall(text_of(document)):
            if language == "python":
                exec(compile(block, document, "exec"), names)
                continue
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
