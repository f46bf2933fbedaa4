"""The progress bar of the commands: shown on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# Arguments: a description, the number of steps done, and the number of all steps, 0 where it is not known.
MoveBar = Callable[[str, int, int], None]


@contextmanager
def progress_bar(description: str) -> Iterator[MoveBar | None]:
    """Yield a function that moves the bar, or None where standard error is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda text, done, of: bar.update(task, description=text, completed=done, total=of or None)
