"""Reads the tokens and the text of an answer while it passes by, and changes nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from routellm_fast.gateway.dialects import Dialect, estimated_usage
from routellm_fast.gateway.exchange import Usage

# Beyond this an answer passes unread: its tokens are then guessed from its length.
_MOST_BYTES: Final = 16 << 20


class AnswerReader:
    """What one answer says of itself. Fed with the bytes as they pass."""

    def __init__(self, dialect: Dialect, *, is_stream: bool, wants_text: bool) -> None:
        """Read a stream of events, or one JSON object; with `wants_text` also the text in it."""
        self._dialect, self._is_stream, self._wants_text = dialect, is_stream, wants_text
        self._rest = bytearray()
        self._usage: Usage | None = None
        self._texts: list[str] = []
        self._bytes = self._events = 0
        self._is_unread = False
        self.response_id = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._bytes += len(data)
        if self._is_unread:
            return
        self._rest += data
        if len(self._rest) > _MOST_BYTES:
            self._is_unread = True
            self._rest.clear()
        elif self._is_stream:
            self._read_events()

    def finish(self) -> None:
        """Read what is left at the end."""
        if self._rest and not self._is_unread:
            if self._is_stream:
                self._rest += b"\n\n"
                self._read_events()
            else:
                self._read(bytes(self._rest))
        self._rest.clear()

    def usage(self, request_chars: Callable[[], int]) -> Usage:
        """Return the tokens, guessed where the answer does not tell them.

        Args:
            request_chars: Returns how many characters of text the request holds.
        """
        if self._usage is not None:
            return self._usage
        if self._is_stream:  # most servers send an event for each token
            return Usage(estimated_usage(request_chars(), 0).input_tokens, self._events, 0, is_estimated=True)
        return estimated_usage(request_chars(), self._bytes)

    @property
    def text(self) -> str:
        """The text so far; "" where it is not wanted."""
        return "".join(self._texts)

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands at the end of an event."""
        return not self._rest

    def _read_events(self) -> None:
        rest = self._rest
        if b"\r" in rest:
            rest[:] = rest.replace(b"\r\n", b"\n")
        begin = 0
        while (end := rest.find(b"\n\n", begin)) >= 0:
            event = rest[begin:end]
            begin = end + 2
            if event.startswith(b":"):
                continue
            self._events += 1
            # Few events tell of tokens, and to parse all of them would take longer than to send them on.
            if self._wants_text or b'"usage"' in event or (not self.response_id and b'"response.created"' in event):
                for line in event.split(b"\n"):
                    if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                        self._read(bytes(line[5:]))
        del rest[:begin]

    def _read(self, data: bytes) -> None:
        try:
            answer: Any = json.loads(data)
        except (ValueError, RecursionError):
            return  # not ours to judge: the client gets it as it is
        if not isinstance(answer, dict):
            return
        usage = self._dialect.usage(answer)
        if usage is not None:
            self._usage = self._dialect.joined_usage(self._usage, usage)
        self.response_id = self.response_id or self._dialect.response_id(answer)
        if self._wants_text:
            self._texts.append(self._dialect.answer_text(answer))
