"""`routellm-fast info`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from routellm_fast import _core
from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact, verify_artifact
from routellm_fast.c_abi import c_abi
from routellm_fast.calibration import Calibration
from routellm_fast.cli._printing import console, say, say_json
from routellm_fast.cli._progress import working
from routellm_fast.errors import InvalidArgumentError, UnreachableTargetError
from routellm_fast.routers.loading import restore_unasked, router_directory
from routellm_fast.shown import shown

_MAX_CHARACTERS: Final = 400
_QUIET_S: Final = 2.0


def info(
    router: Path | None = typer.Argument(
        None, help="Router directory, or mf or sw_ranking for one that ships; not given: mf.", show_default=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    verify: bool = typer.Option(
        False,
        "--verify",
        help="Also read the large tensors, which loading only maps into memory, and check every byte: once after a "
        "directory was copied. (Copy beside a directory that is in use, and then mv: never copy over its files.)",
    ),
    only_digest: bool = typer.Option(
        False,
        "--digest",
        help="Print the directory's digest and nothing else: what --digest of other commands, load_router(digest=) and "
        "the C library take.",
    ),
    show_c_abi: bool = typer.Option(
        False,
        "--c-abi",
        help="Instead of a router: show where the C library and its header are, and how to link with them.",
    ),
) -> None:
    """Check a router directory (digests, shapes, finite weights) and show what it holds."""
    if show_c_abi:
        if router is not None or verify or only_digest:
            raise InvalidArgumentError(
                "--c-abi is about this installation, not about a router: leave out ROUTER, --verify and --digest"
            )
        files = {key.replace("_", " "): str(value) for key, value in c_abi()._asdict().items()}
        if as_json:
            say_json(files)
        else:
            # One fact a line, never broken or cut to the terminal's width: scripts read these.
            say(*(f"{key}: {value}" for key, value in files.items()))
        return
    if only_digest and as_json:
        raise InvalidArgumentError("--digest prints one line: leave out --json, which shows the digest beside the rest")
    directory = router_directory(router)
    verified = _verify(directory) if verify else None
    artifact = read_artifact(directory, ROUTER_LAYOUT)
    if only_digest:
        say(artifact.digest)
        return
    loaded = restore_unasked(artifact, directory)
    arrays = {**artifact.tensors, **artifact.mapped}
    tensors = {
        name: f"{array.dtype} {array.shape}" + (", mapped" if name in artifact.mapped else "")
        for name, array in sorted(arrays.items())
    }
    calibration = loaded.calibration
    facts: dict[str, Any] = {
        "kind": loaded.kind,
        "digest": artifact.digest,
        "strong model": loaded.model_pair.strong,
        "weak model": loaded.model_pair.weak,
        **loaded.facts,
        "embedder": artifact.manifest["embedder"]
        and {key: artifact.manifest["embedder"][key] for key in ("name", "dim", "fingerprint", "settings")},
        "tensors": tensors,
        "tensor bytes": sum(array.nbytes for array in arrays.values()),
        "calibration": calibration and f"{calibration.prompt_count:,} prompts of {calibration.dataset}",
        "thresholds": calibration
        and {
            f"{100 * share:.0f} % strong share": _threshold(calibration, share) for share in (0.1, 0.25, 0.5, 0.75, 0.9)
        },
        **_more_of(calibration),
        "provenance": loaded.provenance,
        "instruction set": f"{_core.active_isa()} (of {', '.join(_core.supported_isas())})",
    }
    if verified is not None:
        facts["verified"] = f"{verified:,} bytes: every digest as recorded, every weight finite"
    if as_json:
        say_json(facts)
        return
    table = Table(title=shown(str(directory)), title_justify="left", show_header=False, box=None, pad_edge=False)
    for key, value in facts.items():
        table.add_row(key, _readable(value))
    console(highlight=True).print(table)


def _threshold(calibration: Calibration, share: float) -> float | str:
    """Return the threshold for a share, or what stands in its way."""
    try:
        return round(calibration.threshold_for(share), 5)
    except UnreachableTargetError:
        found = calibration.quantile(share)
        return f"none: {found:.5f} sends {calibration.share_at(found):.1%}"


def _more_of(calibration: Calibration | None) -> dict[str, Any]:
    """Return the facts that only some calibrations have."""
    if calibration is None:
        return {}
    facts: dict[str, Any] = {}
    if calibration.created:
        facts["calibrated"] = calibration.created
    if calibration.operating_points:
        facts["operating points"] = {
            name: {
                key.replace("_", " "): round(estimate.value, 5)
                for key, estimate in (
                    ("threshold", point.threshold),
                    ("strong_share", point.strong_share),
                    ("cost_usd_per_1k", point.cost_usd_per_1k),
                    ("quality", point.quality),
                    ("pgr", point.pgr),
                )
                if estimate is not None
            }
            for name, point in calibration.operating_points.items()
        }
    if calibration.probability is not None:
        levels = calibration.probability.levels
        facts["probability map"] = {
            "method": calibration.probability.to_json()["method"],
            "levels": "one a win rate" if levels is None else levels,
        }
    return facts


def _verify(directory: Path) -> int:
    with _progress_bar() as on_progress:
        return verify_artifact(directory, ROUTER_LAYOUT, on_progress=on_progress)


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Yield what moves a progress bar, which is shown where the work takes long, or the lines of told_when_long."""
    errors = console(err=True)
    if not errors.is_terminal:
        yield lambda done, total: working("verifying bytes", done, total)
        return
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=errors, transient=True)
    task = progress.add_task("verifying")
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        elapsed = time.monotonic() - start
        # The speed is judged after a quarter of a second: the first megabytes say little about the disk.
        if elapsed > _QUIET_S / 8 and elapsed * total > _QUIET_S * done:
            progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def _readable(value: Any, depth: int = 0) -> str:
    """Return a value as text: an outer object has one line for each key; a text that is too long is left to --json."""
    if isinstance(value, dict) and depth == 0:
        return "\n".join(f"{shown(key)}: {_readable(entry, 1)}" for key, entry in value.items()) or "none"
    if isinstance(value, dict):
        text = ", ".join(f"{shown(key)} {_readable(entry, depth + 1)}" for key, entry in value.items())
        text = f"({text})" if depth > 1 else text
    elif isinstance(value, list):
        text = ", ".join(_readable(entry, depth + 1) for entry in value)
    elif value is None:
        text = "none"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    else:
        text = f"{value:,}" if isinstance(value, int) else shown(str(value))
    return text if len(text) <= _MAX_CHARACTERS else "(long: --json shows it)"
