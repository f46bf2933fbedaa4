"""The gateway's log: one JSON object a line on standard error, without prompts unless the user wants them."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
from datetime import datetime, timezone
from typing import Any, Final

from routellm_fast.gateway.exchange import Exchange
from routellm_fast.gateway.settings import LogSettings

_REQUESTS: Final = "routellm_fast.gateway.requests"
# Lines that wait while nobody reads standard error; further ones are left out.
_MOST_WAITING: Final = 10_000


class RequestLog:
    """A sink that writes a line for each request. A reader that is slow or gone holds nothing up."""

    def __init__(self, settings: LogSettings) -> None:
        """Take what is to be written. Without `start`, nothing is."""
        self._settings = settings
        self._log = logging.getLogger(_REQUESTS)
        self._queue: queue.Queue[Any] = queue.Queue(_MOST_WAITING)
        self._handler = _Handler(self._queue)
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(_Lines())
        self._listener = logging.handlers.QueueListener(self._queue, stream)

    def start(self) -> None:
        """Take over what this package and uvicorn log."""
        for name in ("routellm_fast", "uvicorn.error"):
            log = logging.getLogger(name)
            log.addHandler(self._handler)
            log.propagate = False
        logging.getLogger("routellm_fast.gateway").setLevel(logging.INFO)
        self._listener.start()

    def stop(self) -> None:
        """Write what waits, and leave the log as it was."""
        for name in ("routellm_fast", "uvicorn.error"):
            log = logging.getLogger(name)
            log.removeHandler(self._handler)
            log.propagate = True
        self._listener.stop()

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


class _Handler(logging.handlers.QueueHandler):
    """Puts lines into the queue, and counts those that have no room there."""

    left_out = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the line as it is: it stays in this process, and is written by its parts."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a line into the queue."""
        try:
            self.queue.put_nowait(record)
            if self.left_out:
                record.left_out, self.left_out = self.left_out, 0
        except queue.Full:
            self.left_out += 1


class _Lines(logging.Formatter):
    """A JSON object a line. Control characters are escaped, as JSON does it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        left_out = getattr(record, "left_out", 0)
        if left_out:
            line["lines_left_out"] = left_out
        return json.dumps(line)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
