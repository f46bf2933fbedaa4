"""Standard input, output and error of the commands: closed, full, of another encoding, or a pipe that nobody reads."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from select import select
from typing import TYPE_CHECKING, Final, TextIO

from routellm_fast.errors import DataError
from routellm_fast.shown import shown

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What rich and other libraries write for colours and for bars that are drawn anew: colours, the cursor to the beginning
# of the line or up, the line cleared, the cursor hidden and shown.
_STYLING: Final = re.compile(r"(\x1b\[[0-9;]*m|\r|\x1b\[[0-9]*[AK]|\x1b\[\?25[lh])")


class OutputError(Exception):
    """Standard output cannot be written to; the text says why. No OSError, so that no command takes it for its own."""


class ReaderGoneError(Exception):
    """The reader of standard output has ended, as `head` does. What is written after that is dropped."""


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Guard the standard streams while the block runs.

    Standard output is UTF-8, whatever the locale says: its readers are programs as often as people. The first write to
    it that fails raises OutputError or ReaderGoneError; a message that standard error cannot take is dropped. To a
    closed stream no write succeeds. Streams that a program has put in the place of the standard ones are left alone.
    """
    _occupy_descriptors()
    output, errors = sys.stdout, sys.stderr
    if output is sys.__stdout__:
        sys.stdout = _guarded(output, _Output(output), encoding="utf-8", errors="backslashreplace")
    if errors is sys.__stderr__:
        encoding = "utf-8" if errors is None else errors.encoding
        sys.stderr = _guarded(errors, _Errors(errors), encoding=encoding, errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OutputError, ReaderGoneError):
            sys.stdout.flush()
        sys.stdout, sys.stderr = output, errors


def input_descriptor() -> int:
    """Return the descriptor of standard input. Raises DataError where it is closed."""
    if sys.stdin is None:
        raise DataError("standard input is closed: give prompts as arguments, in a file, or by a pipe")
    return sys.stdin.fileno()


def is_typed() -> bool:
    """Return whether standard input is a terminal, where a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


class _Descriptor(io.RawIOBase):
    """The descriptor of a standard stream, which stays open; None where the stream is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._descriptor = None if stream is None else stream.fileno()
        self._has_failed = False

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("the stream is closed")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            if not self._has_failed:
                return self._written(content)
        except OSError as error:
            self._has_failed = True
            self._refuse(error)
        return memoryview(content).nbytes

    def _written(self, content: ReadableBuffer) -> int:
        if self._descriptor is None:
            raise OSError(0, "it is closed")
        try:
            return os.write(self._descriptor, content)
        except BlockingIOError:  # another program has made the descriptor non-blocking
            select([], [self._descriptor], [])
            return self._written(content)

    def _refuse(self, error: OSError) -> None:
        """Raise what tells the command, or nothing where the content may be dropped."""


class _Output(_Descriptor):
    def _refuse(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from None
        raise OutputError(error.strerror) from error


class _Errors(_Descriptor):
    """Drops what cannot be written: there is no other place to say so."""


def _guarded(stream: TextIO | None, raw: _Descriptor, *, encoding: str, errors: str) -> TextIO:
    if stream is not None:
        stream.flush()
    is_unbuffered = isinstance(stream, io.TextIOWrapper) and stream.write_through
    is_line_buffered = raw.isatty() or isinstance(raw, _Errors)
    return _Shown(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors=errors,
        line_buffering=is_line_buffered or is_unbuffered,
        write_through=is_unbuffered,
    )


class _Shown(io.TextIOWrapper):
    """Text to a standard stream, with escapes in the place of characters that act on a terminal.

    Commands escape what comes from outside themselves (_printing). This is for what libraries print: warnings, logs and
    messages that quote it. Colours and bars go through where there is a terminal, or colours are asked for.
    """

    def write(self, text: str, /) -> int:
        if not text.replace("\n", "").replace("\t", "").isprintable():
            is_styled = self.isatty() or bool(os.environ.get("FORCE_COLOR"))
            parts = _STYLING.split(text) if is_styled else [text]
            # Every second part is what separates the others: the styling.
            parts = [part if index % 2 else _safe(part) for index, part in enumerate(parts)]
            super().write("".join(parts))
        else:
            super().write(text)
        return len(text)


def _safe(text: str) -> str:
    return "\n".join("\t".join(map(shown, line.split("\t"))) for line in text.split("\n"))


def _occupy_descriptors() -> None:
    """Open the null device as each standard descriptor that is closed.

    Otherwise the next file that is opened gets its number, and takes what a library prints.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            os.open(os.devnull, os.O_RDWR)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
