"""The gateway's log: one JSON object a line on standard error, without prompts unless the user wants them."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections import deque
from datetime import datetime, timezone
from typing import Any, Final

from routellm_fast.gateway.exchange import Exchange
from routellm_fast.gateway.settings import LogSettings

_REQUESTS: Final = "routellm_fast.gateway.requests"
# Lines that wait while nobody reads standard error; further ones are left out.
_MOST_WAITING: Final = 10_000
# To wake a thread for each line would take longer than all else that a request needs of the log.
_WRITE_EVERY_S: Final = 0.1
_LAST_S: Final = 5.0


class RequestLog:
    """A sink that writes a line for each request. A reader that is slow or gone holds nothing up.

    Lines are written a tenth of a second later at most; a process that is killed takes that many with it.
    """

    def __init__(self, settings: LogSettings) -> None:
        """Take what is to be written. Without `start`, nothing is."""
        self._settings = settings
        self._log = logging.getLogger(_REQUESTS)
        self._handler = _Handler()

    def start(self) -> None:
        """Take over what this package and uvicorn log."""
        for name in ("routellm_fast", "uvicorn.error"):
            log = logging.getLogger(name)
            log.addHandler(self._handler)
            log.propagate = False
        logging.getLogger("routellm_fast.gateway").setLevel(logging.INFO)
        self._handler.start()

    def stop(self) -> None:
        """Write what waits, and leave the log as it was."""
        for name in ("routellm_fast", "uvicorn.error"):
            log = logging.getLogger(name)
            log.removeHandler(self._handler)
            log.propagate = True
        self._handler.stop()

    def began(self, exchange: Exchange) -> None:
        """Write nothing."""

    def ended(self, exchange: Exchange) -> None:
        """Write a line on a request."""
        if self._settings.requests:
            self._log.info("request", extra={"fields": self._fields(exchange)})

    def mirrored(self, exchange: Exchange) -> None:
        """Write a line on a second answer."""
        if self._settings.requests and exchange.mirrored is not None:
            fields = {**self._fields(exchange.mirrored), "mirror_of": exchange.id}
            self._log.info("mirrored", extra={"fields": fields})

    def _fields(self, exchange: Exchange) -> dict[str, Any]:
        choice, usage = exchange.choice, exchange.usage
        fields: dict[str, Any] = {
            "id": exchange.id,
            "endpoint": exchange.endpoint,
            "client": exchange.client,
            "asked_model": exchange.asked_model[:200],
            "model": exchange.model,
            "status": exchange.status,
            "error": exchange.error,
            "stream": exchange.is_stream,
            "complete": exchange.is_complete,
            "attempts": exchange.attempts,
            "read_ms": _ms(exchange.read_s),
            "decide_ms": _ms(exchange.decide_s),
            "first_byte_ms": _ms(exchange.first_byte_s),
            "total_ms": _ms(exchange.total_s),
        }
        if choice is not None:
            fields |= {name: value for name, value in choice._asdict().items() if name not in ("model", "other")}
        if usage is not None:
            fields |= usage._asdict()
            fields["cost_usd"] = exchange.cost_usd
        if self._settings.prompts:
            fields["text"] = exchange.text
        return fields


class _Handler(logging.Handler):
    """Keeps lines for a thread that writes them, and counts those that have no room."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Lines())
        self._waiting: deque[logging.LogRecord] = deque()
        self._left_out = 0
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="routellm-fast log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits; give up where nobody reads it."""
        self._has_ended.set()
        self._thread.join(_LAST_S)

    def createLock(self) -> None:  # noqa: N802 - logging's own name
        """Need no lock: a deque is safe to append to."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(record)
        else:
            self._left_out += 1

    def _work(self) -> None:
        while not self._has_ended.wait(_WRITE_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        while self._waiting:
            lines.append(self.format(self._waiting.popleft()))
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            lines.append(json.dumps({"level": "warning", "message": "lines left out", "lines": left_out}))
        if lines:
            with contextlib.suppress(OSError, ValueError):  # nobody reads standard error any more
                sys.stderr.write("\n".join(lines) + "\n")
                sys.stderr.flush()


class _Lines(logging.Formatter):
    """A JSON object a line. Control characters are escaped, as JSON does it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
