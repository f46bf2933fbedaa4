"""The command of a timed report: arguments, files and what is printed are the same for every subject."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.places import RESULTS
from benchmarks.harness.reports import Markers, Report, between, dump, read, splice_between


class CannotRunError(Exception):
    """A report cannot be made here; the message says what is missing and what to do."""


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the subject has no arguments of its own."""


@dataclass(frozen=True, slots=True)
class TimedReport:
    """What a subject gives to its command.

    Attributes:
        name: The command's, after `python -m benchmarks`.
        about: What it measures, for the help text.
        measure: Takes the parsed arguments; returns figures that JSON can hold.
        json_name: Takes the report; returns the name of its JSON file.
        page_name: Takes the report; returns the name of its Markdown page.
        page: Makes the page. Pure: every figure comes from the report, and equal reports give equal text.
        excerpt: Makes what stands in a document of the project; None where none shows the report.
        markers: Lines of that document, which the excerpt stands between.
        add_arguments: Adds the subject's own arguments.
        settings: Takes the parsed arguments; returns those that change the figures, as they were typed.
        summary: Makes what is printed at the end.
        has_failed: Tells whether the report is a failure, in spite of its figures.
    """

    name: str
    about: str
    measure: Callable[[argparse.Namespace], Report]
    json_name: Callable[[Report], str]
    page_name: Callable[[Report], str]
    page: Callable[[Report], str]
    excerpt: Callable[[Report], str] | None = None
    markers: Markers = ("", "")
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    settings: Callable[[argparse.Namespace], str] = lambda _: ""
    summary: Callable[[Report], str] | None = None
    has_failed: Callable[[Report], bool] = lambda _: False


def run(subject: TimedReport, arguments: Sequence[str]) -> int:
    """Measure or render a report. Return 0, 1 where it failed, 2 with one line on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {subject.name}",
        description=subject.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny rounds: shows that everything runs")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing, render this JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write, instead of benchmarks/results")
    parser.set_defaults(document=None)
    if subject.excerpt is not None:
        parser.add_argument("--document", type=Path, metavar="FILE", help="put tables between this file's markers too")
    subject.add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        if options.document is not None:
            between(options.document, subject.markers)  # before minutes of measuring, not after
        given = None if options.render is None else read(options.render)
    except OSError as error:
        sys.stderr.write(f"error: {error.filename} cannot be read: {error.strerror}\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    out = options.out or (Path(tempfile.mkdtemp(prefix="benchmark-")) if options.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    try:
        report = given or _measured(subject, options, out)
    except CannotRunError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    _write(out / subject.page_name(report), subject.page(report))
    if options.document is not None and subject.excerpt is not None:
        splice_between(options.document, subject.markers, subject.excerpt(report))
        sys.stderr.write(f"{options.document}\n")
    sys.stdout.write(f"{(subject.summary or subject.page)(report)}\n")
    return int(subject.has_failed(report))


def _measured(subject: TimedReport, options: argparse.Namespace, out: Path) -> Report:
    report: Report = {
        "format_version": 1,
        "command": f"python -m benchmarks {subject.name}"
        + (" --quick" if options.quick else "")
        + subject.settings(options),
        "effort": "quick" if options.quick else "full",
    } | subject.measure(options)
    name = subject.json_name(report)
    report["file"] = name
    content = dump(report)
    _write(out / name, content)
    found: Report = json.loads(content)  # what is rendered is what was written, down to the order of keys
    return found


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    sys.stderr.write(f"{path}\n")
