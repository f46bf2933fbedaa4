"""What a command says of its progress, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from routellm_fast.cli._printing import console
from routellm_fast.shown import shown

# Arguments: a description, the number of steps done, and the number of all steps, 0 where it is not known.
MoveBar = Callable[[str, int, int], None]

# The first line comes after this many seconds, the next ones after twice as long each time, up to the longest wait: a
# program that starts a command and reads its messages only at the end is not swamped by them.
FIRST_LINE_S = 10.0
_LONGEST_WAIT_S = 600.0


class _Work:
    """What the running command is doing; an empty text says nothing of it. Written by one thread, read by another."""

    def __init__(self) -> None:
        self.text, self.done, self.of = "", 0, 0

    def line(self, elapsed_s: float) -> str:
        steps = f", {self.done:,} of {self.of:,}" if self.of else f", {self.done:,}" if self.done else ""
        return f"routellm-fast: {shown(self.text)}{steps} ({elapsed_s:.0f} s)\n"


_work = _Work()


def working(text: str, done: int = 0, of: int = 0) -> None:
    """Note what the command is doing now, for the lines of `told_when_long`.

    Args:
        text: What it does; "" stops the lines, where something else shows it.
        done: The number of steps done.
        of: The number of all steps; 0 where it is not known.
    """
    _work.text, _work.done, _work.of = text, done, of


@contextmanager
def told_when_long() -> Iterator[None]:
    """Say now and then on standard error what the block does, once it takes longer than FIRST_LINE_S.

    Nothing is said where both output and errors go to a terminal: there, bars and rows show it.
    """
    working("")
    if sys.stdout.isatty() and sys.stderr.isatty():
        yield
        return
    has_ended = threading.Event()
    with contextlib.suppress(RuntimeError):  # no thread can be started: the command does its work without a word
        threading.Thread(target=_tell, args=(has_ended,), name="progress", daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()


def _tell(has_ended: threading.Event) -> None:
    start, wait_s = time.monotonic(), FIRST_LINE_S
    while not has_ended.wait(wait_s):
        if _work.text:
            # Not by the stream, whose lock this thread would hold for as long as nobody reads a pipe that is full.
            with contextlib.suppress(OSError, ValueError):
                os.write(sys.stderr.fileno(), _work.line(time.monotonic() - start).encode())
        wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)


@contextmanager
def progress_bar(description: str) -> Iterator[MoveBar]:
    """Yield a function that moves a bar; where standard error is no terminal, it moves the lines of told_when_long."""
    output = console(err=True)
    if not output.is_terminal:
        working(description)
        yield working
        return
    with _shown_otherwise():
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=output, transient=True) as bar:
            task = bar.add_task(shown(description), total=None)
            yield lambda text, done, of: bar.update(task, description=shown(text), completed=done, total=of or None)


@contextmanager
def busy(description: str) -> Iterator[None]:
    """Show a spinner while the block runs; where standard error is no terminal, the lines of told_when_long say it."""
    output = console(err=True)
    if not output.is_terminal:
        working(description)
        yield
        return
    with _shown_otherwise(), output.status(Text(shown(description))):
        yield


@contextmanager
def _shown_otherwise() -> Iterator[None]:
    """Say nothing by lines while the block runs."""
    text, done, of = _work.text, _work.done, _work.of
    working("")
    try:
        yield
    finally:
        working(text, done, of)
