"""The command of a quality run: arguments, files and errors are the same for every subject."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.places import RESULTS
from routellm_fast import RouteLLMError


@dataclass(frozen=True, slots=True)
class Result:
    """One pair of files.

    Attributes:
        name: Name of both files, without an ending.
        record: What the JSON holds besides `created` and `command`.
        page: The Markdown.
    """

    name: str
    record: dict[str, Any]
    page: str


def run(
    name: str,
    about: str,
    make: Callable[[argparse.Namespace], Iterable[Result]],
    arguments: Sequence[str],
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> int:
    """Make results and write them. Return 0, or 2 with one line on bad input.

    Args:
        name: The command's, after `python -m benchmarks`.
        about: What it does, for the help text.
        make: Takes the parsed arguments: `data`, `out`, `created` and the subject's own.
        arguments: What was typed after the command's name.
        add_arguments: Adds the subject's own.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data folder: train/, routellm_evals/")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where to write; default: %(default)s")
    parser.add_argument("--created", default=datetime.datetime.now(datetime.timezone.utc).date().isoformat())
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        results = list(make(options))
        options.out.mkdir(parents=True, exist_ok=True)
        for result in results:
            head = {"created": options.created, "command": f"python -m benchmarks {name}"}
            path = options.out / f"{result.name}.json"
            path.write_text(json.dumps(head | result.record, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(result.page, encoding="utf-8")
    except (RouteLLMError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("\n".join(result.page for result in results))
    return 0
