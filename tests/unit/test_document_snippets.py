"""Code of the documents that does not run: within lines, lists and tables, and in blocks without a language.

Commands, options, extras, targets, files, functions and keywords that it names exist.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

import routellm_fast
from routellm_fast import routers
from routellm_fast.cli._app import app
from tests.unit.test_documents import DOCUMENTS, FENCE, REPOSITORY, blocks_of, commands_of, text_of

USER_PAGES = [name for name in DOCUMENTS if name != "CHANGELOG.md"]
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
EXTRAS = re.findall(
    r"^([a-z-]+) = \[", PYPROJECT.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE
)
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROGRAMS = ("routellm-fast", "pip", "make", "python", "python3")
# Files that a reader has made by then.
MADE = {"exported/example.py"}
# Where a name without a module in front of it may be from.
HOMES = ("routellm_fast", "routellm_fast.routers", "routellm_fast.prompt", "routellm_fast.serving.triton")


def spans_of(document: str) -> list[str]:
    return SPAN.findall(FENCE.sub("", text_of(document)))


def shell_lines(document: str) -> Iterator[list[str]]:
    """Commands in blocks without a language, and those within lines, lists and tables."""
    for language, block in blocks_of(document):
        if language in ("", "sh"):
            joined = block.replace("\\\n", " ")
            starting = [line for line in joined.splitlines() if line.split(" ")[0] in PROGRAMS]
            yield from commands_of("\n".join(starting))
    for span in spans_of(document):
        words = span.split()
        if words[0] in PROGRAMS and len(words) > 1:
            yield shlex.split(span)


def fault_of(words: list[str]) -> str | None:
    """What is wrong with a command; None where it is right."""
    program, *rest = words
    if program == "routellm-fast":
        return fault_of_routellm(rest)
    if program == "pip":
        named = [part for word in rest for part in re.findall(r"\[([a-z,-]+)\]", word) if word.startswith(".[")]
        if any("routellm-fast[" in word or word == "routellm-fast" for word in rest):
            return "no index holds routellm-fast"
        unknown = {extra for part in named for extra in part.split(",")} - set(EXTRAS)
        return f"no extra {sorted(unknown)}" if unknown else None
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        return None if set(targets) <= TARGETS else f"no target {sorted(set(targets) - TARGETS)}"
    if rest[0] == "-m":
        return None if importlib.util.find_spec(rest[1]) else f"no module {rest[1]}"
    exists = rest[0].startswith("-") or rest[0] in MADE or (REPOSITORY / rest[0]).is_file()
    return None if exists else f"no file {rest[0]}"


def fault_of_routellm(words: list[str]) -> str | None:
    command: Any = typer.main.get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        if not words:
            return None  # a group alone
        name, *words = words
        if name.startswith("-"):
            return None if name in ("--help", "--version") else f"no option {name}"
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    options = {option for entry in command.params for option in (*entry.opts, *entry.secondary_opts)} | {"--help"}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    unknown = [option for option in given if option not in options]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("document", USER_PAGES)
def test_commands_name_what_exists(document: str) -> None:
    commands = list(shell_lines(document))
    assert [(shlex.join(words), fault) for words in commands if (fault := fault_of(words))] == []


def test_commands_are_found() -> None:
    found = [words[0] for document in USER_PAGES for words in shell_lines(document)]
    assert found.count("routellm-fast") > 20
    assert min(found.count(program) for program in ("pip", "make", "python")) >= 3


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("routellm-fast train mf --battels x", "no option --battels"),
        ("routellm-fast trane mf", "no command trane"),
        ("routellm-fast export onnx A B --precision=int8", None),
        ("pip install 'routellm-fast[train]'", "no index holds routellm-fast"),
        ("pip install '.[train,nonsense]'", "no extra ['nonsense']"),
        ("make nonsense", "no target ['nonsense']"),
        ("python benchmarks/measure_triton.py", "no file benchmarks/measure_triton.py"),
        ("python -m recipes.shipped --data D", None),
    ],
)
def test_faults_are_seen(command: str, fault: str | None) -> None:
    assert fault_of(shlex.split(command)) == fault


def every_option() -> set[str]:
    found, left = {"--help", "--version"}, [typer.main.get_command(app)]
    while left:
        command: Any = left.pop()
        left += list(getattr(command, "commands", {}).values())
        found |= {option for entry in command.params for option in (*entry.opts, *entry.secondary_opts)}
    return found


# Options of tritonserver.
FOREIGN = {
    "--exit-on-error", "--http-max-input-size", "--disable-auto-complete-config", "--backend-directory",
    "--model-control-mode", "--load-model", "--cache-config", "--allow-http", "--http-restricted-api",
    "--grpc-restricted-protocol",
}  # fmt: skip


@pytest.mark.parametrize("document", [name for name in USER_PAGES if name != "CONTRIBUTING.md"])
def test_options_that_are_named_alone_exist(document: str) -> None:
    named = {span.split()[0].partition("=")[0] for span in spans_of(document) if span.startswith("--")}
    assert sorted(named - every_option() - FOREIGN) == []


def resolved(path: str, names: dict[str, Any]) -> Any:
    """The object of a dotted name: of what a page's blocks import, or of the package. Raises LookupError."""
    first, *rest = path.split(".")
    if first == "rf" and rest[:1] and rest[0] not in routellm_fast.__all__:
        raise LookupError(path)  # e.g. a module, which `import routellm_fast` alone does not load
    homes = [importlib.import_module(home) for home in HOMES]
    if first in names:
        found = names[first]
    elif first == "routellm_fast":
        found = routellm_fast
    else:
        home = next((home for home in homes if hasattr(home, first)), None)
        if home is None:
            raise LookupError(first)
        found = getattr(home, first)
    for index, name in enumerate(rest):
        if not hasattr(found, name):
            try:
                found = importlib.import_module(".".join([found.__name__, *rest[index : index + 1]]))
            except (AttributeError, ModuleNotFoundError):
                raise LookupError(path) from None
        else:
            found = getattr(found, name)
    return found


def imported(document: str) -> dict[str, Any]:
    """What a page's python blocks import, and the objects that its lines speak of."""
    names: dict[str, Any] = {"router": routers.Router}
    for language, block in blocks_of(document):
        if language == "python":
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    exec(compile(ast.Module([node], []), document, "exec"), names)
    return names


def calls_of(span: str) -> list[ast.Call]:
    text = span.removeprefix(".") if re.match(r"\.\w", span) else span
    try:
        tree = ast.parse(text.replace("…", "..."), mode="eval")
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def fault_of_call(call: ast.Call, names: dict[str, Any], *, is_method: bool) -> str | None:
    path = ast.unparse(call.func)
    if is_method:
        kinds = [getattr(routers, name) for name in routers.__all__ if inspect.isclass(getattr(routers, name))]
        targets = [getattr(kind, path) for kind in kinds if hasattr(kind, path)]
    else:
        try:
            targets = [resolved(path, names)]
        except LookupError:
            return f"nothing is named {path}"
    if not targets:
        return f"no router has a method {path}"
    for target in targets:
        parameters = inspect.signature(target).parameters
        takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
        unknown = [word.arg for word in call.keywords if word.arg and word.arg not in parameters and not takes_any]
        if not unknown:
            return None
    return f"{path} takes no {', '.join(map(str, unknown))}"


# Their calls are C's, formulas, or those that a contributor writes.
OTHER_PAGES = ("CONTRIBUTING.md", "docs/c-abi.md", "docs/artifact-format.md")
PYTHON_PAGES = [name for name in USER_PAGES if name not in OTHER_PAGES]


def python_calls(document: str) -> Iterator[tuple[str, ast.Call, bool]]:
    for span in spans_of(document):
        if re.match(r"\.?[A-Za-z_][\w.]*\(", span):
            for call in calls_of(span):
                yield span, call, span.startswith(".")


@pytest.mark.parametrize("document", PYTHON_PAGES)
def test_calls_within_lines_and_tables_name_what_exists(document: str) -> None:
    for module in ("onnx",) if "export" in document else ():
        pytest.importorskip(module)
    names = imported(document)
    found = [(span, fault_of_call(call, names, is_method=method)) for span, call, method in python_calls(document)]
    assert [(span, fault) for span, fault in found if fault] == []


def test_calls_are_found_and_their_faults_seen() -> None:
    assert sum(1 for document in PYTHON_PAGES for _ in python_calls(document)) >= 15
    names = {"rf": routellm_fast}
    for text, fault in (
        ("rf.prompt.text_off(messages)", "nothing is named rf.prompt.text_off"),
        ("rf.prompt.text_of(messages)", "nothing is named rf.prompt.text_of"),
        ("rf.OpenAIEmbedder(model=…, base=…)", "rf.OpenAIEmbedder takes no base"),
        ("messages_of(x)", "nothing is named messages_of"),
        ("rf.load_router(strong_model='a')", None),
    ):
        (call,) = calls_of(text)
        assert fault_of_call(call, names, is_method=False) == fault


def test_every_extra_is_in_the_readme() -> None:
    section = text_of("README.md").split("## Extras")[1].split("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    assert sorted(SPAN.findall("\n".join(line.split("|")[1] for line in table.splitlines()))) == sorted(EXTRAS)
    for words in ("https://download.pytorch.org/whl/cpu", "https://pypi.nvidia.com", "OnnxRuntimesWarning"):
        assert words in section


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_page_installs_what_no_index_holds(document: str) -> None:
    if document != "CHANGELOG.md":  # tells what was
        assert "routellm-fast[" not in text_of(document)


def test_pages_are_found() -> None:
    assert all((REPOSITORY / Path(name)).is_file() for name in USER_PAGES)
