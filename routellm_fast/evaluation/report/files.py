"""An evaluation as a folder: one page that needs nothing else, its pictures, and the record itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from routellm_fast.atomic import replaced_file
from routellm_fast.errors import DataError
from routellm_fast.evaluation.report.page import page
from routellm_fast.evaluation.report.plots import draw_plots
from routellm_fast.evaluation.results import Evaluation
from routellm_fast.extras import require
from routellm_fast.shown import as_json

PAGE_NAME: Final = "report.html"
RECORD_NAME: Final = "evaluation.json"
# What every report holds; a folder with one of these holds a report.
OUTPUTS: Final = (PAGE_NAME, RECORD_NAME)


def check_report(folder: Path) -> None:
    """Refuse before an evaluation what would make write_report fail after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: The folder cannot be made, or something else stands there.
    """
    require("matplotlib", "evaluate")
    make_folder(folder)


def make_folder(folder: Path) -> None:
    """Make the folder of a report where there is none. Raises DataError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write report.html, a PNG of each plot and evaluation.json; equal evaluations give equal bytes.

    Other files in the folder stay. Each file appears whole or not at all.

    Returns:
        What was written, the page first.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: The folder or a file cannot be written.
    """
    check_report(folder)
    names = _file_names([result.name for result in evaluation.benchmarks])
    plots = [draw_plots(result, salt=name) for result, name in zip(evaluation.benchmarks, names, strict=True)]
    # Names come from JSON, which can hold lone surrogates; UTF-8 cannot.
    files = {PAGE_NAME: page(evaluation, names, plots).encode("utf-8", "replace")}
    for name, drawn in zip(names, plots, strict=True):
        files |= {f"{name}_{plot.name}.png": plot.png for plot in drawn}
    files[RECORD_NAME] = f"{as_json(evaluation.to_json(), indent=1, sort_keys=True)}\n".encode()
    return [write_output(folder / name, content) for name, content in files.items()]


def _file_names(benchmarks: list[str]) -> list[str]:
    """Names that are safe in a file system and an HTML id, and differ."""
    names: list[str] = []
    for benchmark in benchmarks:
        stem = re.sub(r"[^a-z0-9_-]+", "_", benchmark.lower()).strip("_-")[:60] or "benchmark"
        # An id that begins with a digit is no CSS name.
        stem = stem if stem[0].isalpha() else f"b_{stem}"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def write_output(path: Path, content: bytes) -> Path:
    """Write a file that appears whole or not at all. Raises DataError where that fails."""
    try:
        with replaced_file(path) as file:
            file.write(content)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written ({error.strerror or error})")
