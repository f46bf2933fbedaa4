"""The one bar of all commands: on a terminal, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# What is done, how many steps of it, and of how many: 0 where that is not known before the end.
MoveBar = Callable[[str, int, int], None]


@contextmanager
def progress_bar(description: str) -> Iterator[MoveBar | None]:
    """Yield what moves the bar; None where nobody would see it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda text, done, of: bar.update(task, description=text, completed=done, total=of or None)
