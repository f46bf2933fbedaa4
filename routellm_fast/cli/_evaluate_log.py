"""`routellm-fast evaluate --log`: logs of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from routellm_fast.evaluation.streaming import LogColumns, OnBadRow, StreamedQuality, evaluate_log
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.routers import load_router
from routellm_fast.scoring import OnStep

ENGINES: Final = ("local", "ray")


def stream_logs(
    routers: Mapping[str, Scorer],
    places: Mapping[str, tuple[str, str | None]],
    files: Sequence[Path],
    columns: LogColumns,
    *,
    engine: str,
    skip_bad_rows: bool,
    allow_server: Sequence[str] | None,
    on_progress: OnStep | None,
) -> StreamedQuality:
    """Read logs with the named engine. Raises what `evaluate_log` and `ray_engine.run` raise.

    Args:
        routers: Loaded routers, by the name that results show.
        places: Each router as the user named it, and its digest where one was given, for engines whose workers load
            routers themselves.
        files: The logs.
        columns: Names of the columns that hold the prompt, both qualities and the domain.
        engine: One of ENGINES.
        allow_server: Servers that the routers' embedders may ask; see load_router.
        skip_bad_rows: Leave out and count rows that cannot be used.
        on_progress: Called as rows are read.
    """
    on_bad_row: OnBadRow = "skip" if skip_bad_rows else "error"

    def show(rows: int) -> None:
        if on_progress is not None:
            # The number of all rows is not known before the end.
            on_progress(f"{rows:,} rows", 0, 0)

    if engine == "ray":
        from routellm_fast.evaluation.streaming.ray_engine import run

        loaders = {
            name: partial(load_router, place, digest=digest, allow_server=allow_server)
            for name, (place, digest) in places.items()
        }
        return run(loaders, files, columns, on_bad_row=on_bad_row, on_progress=show)
    return evaluate_log(routers, files, columns, on_bad_row=on_bad_row, on_progress=show)
