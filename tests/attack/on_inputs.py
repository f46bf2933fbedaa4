"""Damaged and hostile text through all readers of the command line."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from routellm_fast.cli import main
from tests.attack.harness import Attack, Campaign
from tests.support.builders import mf_router
from tests.support.hostile import HOSTILE_WITH_SLASH, unsafe_characters

# What is put into a file somewhere.
_PIECES: Final = (
    *(b'"', b'""', b"'", b",", b";", b"\t", b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\0\0", b"{", b"}", b"[", b"]"),
    *(b"\\", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\xf0\x9f"),
    *(b"\x80" * 5, b"\xe2\x80\xa8", b"NaN", b"Infinity", b"1e999", b"-0", b"9" * 5000, b"null", b"true"),
    *(b'"prompt":', b'"prompt": 1,', b"[" * 2000, b'{"prompt": ["a"]}', b'{"messages": [{"role": "user"}]}'),
    *(b"x" * 70_000, b"\x1f\x8b", b"PK\x03\x04", b"PAR1", HOSTILE_WITH_SLASH.encode()),
)  # fmt: skip
_PAIR: Final = ("--strong-model", "strong-model", "--weak-model", "weak-model")
_POOL: Final = ("--models", "strong-model=2", "--models", "weak-model=1")


def _prompts(rng: random.Random) -> list[str]:
    words = ("hello", "prove", "the", "a", "b?", "", "  ", "[bold]", "{x}", "\x1b[2J", "é", "漢", '"quoted"', "1,2;3")
    return [" ".join(rng.choices(words, k=rng.randrange(8))) for _ in range(rng.randrange(1, 12))]


def _csv(header: str, rows: Sequence[Sequence[object]], separator: str) -> bytes:
    quoted = (separator.join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in rows)
    return "\n".join([header.replace(",", separator), *quoted, ""]).encode()


def random_file(rng: random.Random) -> tuple[str, bytes]:
    """Return the name and the content of a file of prompts, labels or battles that is damaged somewhere, or not."""
    prompts = _prompts(rng)
    kind = rng.choice(("txt", "jsonl", "chat.jsonl", "csv", "golden.csv", "golden.jsonl", "battles.csv"))
    records: list[object] = [{"id": number, "prompt": prompt} for number, prompt in enumerate(prompts)]
    if kind == "chat.jsonl":
        records = [{"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    if kind == "golden.jsonl":
        records = [{"prompt": prompt, "strong-model": 1, "weak-model": rng.random()} for prompt in prompts]
    if kind == "txt":
        content = "\n".join([*prompts, ""]).encode()
    elif kind.endswith("jsonl"):
        content = "".join(json.dumps(record, ensure_ascii=rng.random() < 0.5) + "\n" for record in records).encode()
    else:
        separator = rng.choice(",;\t")
        rows: list[list[object]] = [[prompt, 1, number % 2] for number, prompt in enumerate(prompts)]
        header = "prompt,strong-model,weak-model"
        if kind == "battles.csv":
            header, rows = "prompt,model_a,model_b,winner", [[p, "strong-model", "weak-model", "tie"] for p in prompts]
        content = _csv(header, rows, separator)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        content = _damaged(content, rng)
    # Sometimes the name says something else than the content.
    ending = rng.choice((kind, kind, kind, "txt", "jsonl", "csv", "tsv", "json"))
    if rng.random() < 0.1:
        content = gzip.compress(content)
        if rng.random() < 0.2:
            content = _damaged(content, rng)
        ending += rng.choice((".gz", ".gz", ".gz", ""))
    return f"in.{ending}", content


def _damaged(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    to = min(len(content), at + rng.randrange(20))
    return rng.choice(
        (
            lambda: content[:at] + rng.choice(_PIECES) + content[at:],
            lambda: content[:at] + rng.choice(_PIECES) + content[to:],
            lambda: content[:at] + content[to:],
            lambda: content[:at],
            lambda: content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[to:],
            lambda: content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n"))),
            lambda: content.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-16-le"))),
        )
    )()


def _run(arguments: Sequence[str], stdin: Path | None) -> tuple[int, str, str]:
    output, errors, before = io.StringIO(), io.StringIO(), sys.stdin
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        if stdin is not None:
            sys.stdin = stack.enter_context(stdin.open(encoding="utf-8"))
            stack.callback(setattr, sys, "stdin", before)
        status = main(arguments)
    return status, output.getvalue(), errors.getvalue()


def _commands(folder: Path, file: Path, rng: random.Random) -> tuple[list[str], bool]:
    """Return a command that reads the file, and whether it does so on standard input."""
    router, out = str(folder / "router"), str(folder / "out.jsonl")
    form = rng.choice(([], [], ["--format", "text"], ["--format", "jsonl"]))
    strict = ["--strict"] if rng.random() < 0.2 else []
    by_pipe = rng.random() < 0.3
    reads = [] if by_pipe else ["--file", str(file)]
    log = "-" if by_pipe else str(file)
    checked = ["calibrate", router, log, "--check", *form, *strict]
    found: list[tuple[list[str], bool]] = [
        *[(["route", "--router", router, *reads, *form, *strict, *rng.choice(([], ["--jsonl"]))], by_pipe)] * 4,
        (["rank", "--router", router, *reads, *form, *strict, *_POOL, "--jsonl"], by_pipe),
        (checked, by_pipe),
        (["augment", "golden", str(file), "--out", out, "--force", *strict], False),
        (["evaluate", router, "--golden", str(file), *_PAIR, "--resamples", "2", *strict], False),
        (["evaluate", router, "--log", str(file), *_PAIR, "--resamples", "2", *strict], False),
    ]
    return rng.choice(found)


def _check(arguments: Sequence[str], content: bytes, status: int, output: str, errors: str) -> None:
    assert status in ((0, 1, 2) if "--check" in arguments else (0, 2)), f"status {status}"
    assert not unsafe_characters(output), f"the output holds {unsafe_characters(output)}"
    assert not unsafe_characters(errors), f"the errors hold {unsafe_characters(errors)}"
    lines = errors.splitlines()
    assert all(line.startswith("routellm-fast: ") for line in lines), f"an error without a name: {errors!r}"
    if status == 2:
        assert lines, "status 2 without a word"
        return
    if "--jsonl" not in arguments:
        return
    records = [json.loads(line) for line in output.splitlines()]
    assert all(isinstance(record["prompt"], str) for record in records)
    # Each line of a file of lines is answered, or it is said that it was left out.
    is_table = "--file" in arguments and ".csv" in arguments[arguments.index("--file") + 1]
    if is_table and "--format" not in arguments:
        return
    if "--file" in arguments and arguments[arguments.index("--file") + 1].endswith(".gz"):
        content = gzip.decompress(content)
    left_out = sum(
        int(found.replace(",", "")) for found in re.findall(r"(?m)^routellm-fast: ([\d,]+) (?:rows?|blank)", errors)
    )
    expected = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    assert len(records) + left_out == expected, f"{len(records)} answers and {left_out} left out of {expected} lines"
    if "text" in arguments:
        texts = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in content.split(b"\n")]
        texts[0] = texts[0].removeprefix("\ufeff")
        wanted = [text for text in texts if text and not text.isspace()]
        assert [record["prompt"] for record in records] == wanted, "another text than in the file"


def _inputs(campaign: Campaign) -> None:
    mf_router().save(campaign.folder / "router")
    for _ in range(campaign.count):
        name, content = random_file(campaign.rng)
        file = campaign.folder / name
        file.write_bytes(content)
        arguments, by_pipe = _commands(campaign.folder, file, campaign.rng)
        try:
            status, output, errors = _run(arguments, file if by_pipe else None)
            _check(arguments, content, status, output, errors)
        except Exception as error:
            shown = f"{arguments[:1]} of {name}: {content[:300]!r}{'…' if len(content) > 300 else ''}"
            raise AssertionError(f"{shown} as {arguments[1:]}: {type(error).__name__}: {error}") from error
        campaign.tally["refused" if status == 2 else "read"] += 1
        file.unlink()


ATTACKS = [
    Attack(
        name="inputs of the command line",
        tried="a file of prompts, labels or battles, damaged at random, is given to a command by name or by a pipe.",
        held="the status is 0, or 2 with a line that says why; no character that acts on a terminal is printed; each "
        "line of a file of prompts is answered or said to be left out.",
        unit="files",
        whole=5_000,
        brief=60,
        run=_inputs,
    )
]
