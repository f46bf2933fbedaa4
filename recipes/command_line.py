"""The options that the commands of this folder share, and how they end."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from routellm_fast.errors import RouteLLMError


def parser_of(module: str, text: str | None, *, data: str, out: str, is_dated: bool = True) -> argparse.ArgumentParser:
    """Return the options of `python -m recipes.<module>`.

    Args:
        module: The module's name.
        text: What the command does: the module's docstring.
        data: What the data folder holds.
        out: What is written.
        is_dated: Whether the result carries a date.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m recipes.{module}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help=f"data folder: {data}")
    parser.add_argument("--out", type=Path, required=True, help=out)
    if is_dated:
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        parser.add_argument("--created", default=today, help="date for the record; the same date, the same bytes")
    return parser


def run(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, work: Callable[[argparse.Namespace], str]
) -> int:
    """Do the work and print the text that it returns. Return 0, or 2 with one line on bad input."""
    options = parser.parse_args(arguments)
    try:
        text = work(options)
    except RouteLLMError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{text}\n")
    return 0


def write_results(folder: Path, name: str, numbers: str, page: str) -> None:
    """Write NAME.json and NAME.md into a folder, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(f"{numbers}\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(f"{page}\n", encoding="utf-8")
