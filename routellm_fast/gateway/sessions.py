"""Conversations stay with their model where that is worth it, since its server has them in the prompt cache.

The threshold t of a router stands for a rate of exchange between quality and money: with t, the price of the strong
model above the weak one, c_s - c_w, is worth paying from a win rate of t on. A conversation whose first H tokens are in
the prompt cache of one of the two makes that model cheaper, by H times what a cached token saves. At the same rate of
exchange its request goes to the strong model from a win rate of t (c_s' - c_w') / (c_s - c_w) on, where c' are the
costs with the cache: `moved_threshold`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from routellm_fast.gateway.settings import ModelSettings, SessionSettings
from routellm_fast.gateway.state_file import StateFile, transaction
from routellm_fast.prices import PAPER_TOKENS

_T = TypeVar("_T")

# English text has about so many characters a token.
CHARS_PER_TOKEN: Final = 4.0
# How many answers a mean length rests on, as far as it goes back.
_MEAN_OVER: Final = 1_000
_MOST_RESPONSES: Final = 1_000_000
# How many entries wait in memory where the disk fails; older ones are forgotten.
_MOST_WAITING: Final = 100_000
_DIGEST_BYTES: Final = 16
_FILE: Final = "sessions.sqlite3"
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS conversations (
        key BLOB PRIMARY KEY, model TEXT NOT NULL, used_s REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS conversations_by_use ON conversations (used_s)",
    # The ids count up, so that the newest are known by them.
    """CREATE TABLE IF NOT EXISTS responses (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, model TEXT NOT NULL
    )""",
)


def moved_threshold(
    threshold: float,
    strong: ModelSettings,
    weak: ModelSettings,
    *,
    is_strong_held: bool,
    input_tokens: float,
    held_tokens: float,
    strong_output_tokens: float,
    weak_output_tokens: float,
) -> float:
    """Return the threshold of a request whose conversation is in the prompt cache of one of the two models.

    Args:
        threshold: The threshold without a cache, in [0, 1].
        strong: The strong model's prices.
        weak: The weak model's prices.
        is_strong_held: Whether it is the strong model that has the conversation in its cache, else the weak one.
        input_tokens: Tokens of the whole request.
        held_tokens: How many of them are in the cache.
        strong_output_tokens: Tokens of the strong model's answer, as expected.
        weak_output_tokens: The same of the weak model's.

    Returns:
        The moved threshold, in [0, 1]. Where a model has no price, nothing can be weighed, and the conversation stays
        with its model: 0 where that is the strong one, else 1. Where the strong model costs no more than the weak one
        with the cache, 0. Where it does so only without the cache, the threshold is no rate of exchange, and the
        conversation stays with the weak model: 1.
    """
    if not (strong.has_price and weak.has_price):
        return 0.0 if is_strong_held else 1.0

    def dearer_usd(strong_held_tokens: float, weak_held_tokens: float) -> float:
        """How much more the strong model costs."""
        return strong.cost_usd(
            round(input_tokens), round(strong_output_tokens), round(strong_held_tokens)
        ) - weak.cost_usd(round(input_tokens), round(weak_output_tokens), round(weak_held_tokens))

    with_cache = dearer_usd(held_tokens, 0.0) if is_strong_held else dearer_usd(0.0, held_tokens)
    without_cache = dearer_usd(0.0, 0.0)
    if with_cache <= 0.0:
        return 0.0
    if without_cache <= 0.0:
        return 1.0
    return min(1.0, threshold * with_cache / without_cache)


class Sessions:
    """Remembers which model each conversation went to, and which one made each answer that lives at its server.

    Conversations are forgotten when the server's cache has forgotten them; answers by their number, the oldest of a
    million first. All worker processes share one file in the state folder, so that both also outlive a restart. Only
    digests are kept, no text and no id. What one worker notes, others know within half a second. For the thread of one
    event loop.
    """

    def __init__(
        self, settings: SessionSettings | None, state_dir: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Open or create the file.

        Args:
            settings: How long and how many conversations are remembered; None: none are, only answers.
            state_dir: The folder that the worker processes share.
            clock: Returns seconds since 1970.

        Raises:
            DataError: The folder cannot be written to, or its file is not ours.
        """
        self.settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        # Not yet on disk, and being written at this moment.
        self._conversations: dict[bytes, tuple[str, float]] = {}
        self._responses: dict[bytes, str] = {}
        self._writing: tuple[dict[bytes, tuple[str, float]], dict[bytes, str]] = {}, {}
        self._noted_since_trim = 0
        self._outputs: dict[str, tuple[int, float]] = {}
        self._file = StateFile(state_dir / _FILE, _SCHEMA, self._save)

    def model_of(self, conversation: str) -> str | None:
        """Return the model that has a conversation in its prompt cache; None where none is known to."""
        if self.settings is None:
            return None
        key = _digest(conversation)
        with self._lock:
            noted = self._conversations.get(key) or self._writing[0].get(key)
        stored = self._file.read("SELECT model, used_s FROM conversations WHERE key = ?", (key,))
        # Another worker may have noted it later than this one.
        model, used_s = max((row for row in (noted, stored) if row), key=lambda row: row[1], default=(None, 0.0))
        return model if self._clock() - used_s < self.settings.ttl_s else None

    def note(self, conversation: str, model: str) -> None:
        """Remember that a model answered in a conversation just now."""
        if self.settings is not None:
            with self._lock:
                self._conversations[_digest(conversation)] = model, self._clock()
            self._file.wake()

    def owner_of(self, response_id: str) -> str | None:
        """Return the model whose server keeps an answer under this id; None where it is not known."""
        key = _digest(response_id)
        with self._lock:
            noted = self._responses.get(key) or self._writing[1].get(key)
        if noted is not None:
            return noted
        row = self._file.read("SELECT model FROM responses WHERE key = ?", (key,))
        return None if row is None else row[0]

    def note_response(self, response_id: str, model: str) -> None:
        """Remember which model's server keeps an answer."""
        with self._lock:
            self._responses[_digest(response_id)] = model
        self._file.wake()

    def note_output(self, model: str, output_tokens: int) -> None:
        """Count the length of a model's answer for `output_tokens`."""
        count, mean = self._outputs.get(model, (0, 0.0))
        count = min(count + 1, _MEAN_OVER)
        self._outputs[model] = count, mean + (output_tokens - mean) / count

    def output_tokens(self, model: str) -> float:
        """Return how many tokens a model's answers had on average in this process, about the last thousand counting.

        Before the first it is the mean of the answers that RouteLLM's paper reckons with, 264.
        """
        return self._outputs.get(model, (0, PAPER_TOKENS.output))[1]

    def moved_threshold(
        self,
        threshold: float,
        strong: tuple[str, ModelSettings],
        weak: tuple[str, ModelSettings],
        *,
        is_strong_held: bool,
        history_chars: int,
        text_chars: int,
    ) -> float:
        """Return `moved_threshold` of two named models, with tokens estimated from characters, 4 a token.

        Args:
            threshold: The threshold without a cache, in [0, 1].
            strong: The strong model's name and prices.
            weak: The weak model's.
            is_strong_held: Whether it is the strong model that has the conversation in its cache.
            history_chars: Characters of the request before the text that is routed on: what is in the cache.
            text_chars: Characters of that text.
        """
        return moved_threshold(
            threshold,
            strong[1],
            weak[1],
            is_strong_held=is_strong_held,
            input_tokens=(history_chars + text_chars) / CHARS_PER_TOKEN,
            held_tokens=history_chars / CHARS_PER_TOKEN,
            strong_output_tokens=self.output_tokens(strong[0]),
            weak_output_tokens=self.output_tokens(weak[0]),
        )

    def flush(self) -> bool:
        """Write what is not on disk yet; return whether it could be."""
        return self._file.flush()

    def close(self) -> None:
        """Write what is not on disk yet, and close the file."""
        self._file.close()

    def _save(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            conversations, responses = self._conversations, self._responses
            self._writing = conversations, responses
            self._conversations, self._responses = {}, {}
        try:
            if conversations or responses:
                self._write(connection, conversations, responses)
        except BaseException:
            with self._lock:
                self._conversations = _newest({**conversations, **self._conversations})
                self._responses = _newest({**responses, **self._responses})
                self._writing = {}, {}
            raise
        with self._lock:
            self._writing = {}, {}

    def _write(
        self,
        connection: sqlite3.Connection,
        conversations: dict[bytes, tuple[str, float]],
        responses: dict[bytes, str],
    ) -> None:
        with transaction(connection):
            connection.executemany(
                "INSERT INTO conversations VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET model = excluded.model, "
                "used_s = excluded.used_s WHERE excluded.used_s >= used_s",
                [(key, model, used_s) for key, (model, used_s) in conversations.items()],
            )
            connection.executemany("INSERT OR REPLACE INTO responses (key, model) VALUES (?, ?)", responses.items())
            if responses:
                connection.execute(
                    "DELETE FROM responses WHERE id <= (SELECT max(id) FROM responses) - ?", (_MOST_RESPONSES,)
                )
            self._noted_since_trim += len(conversations)
            settings = self.settings
            # Finding the oldest reads the whole index.
            if settings is not None and self._noted_since_trim > settings.max_sessions // 10:
                self._noted_since_trim = 0
                connection.execute("DELETE FROM conversations WHERE used_s <= ?", (self._clock() - settings.ttl_s,))
                connection.execute(
                    "DELETE FROM conversations WHERE key IN "
                    "(SELECT key FROM conversations ORDER BY used_s DESC LIMIT -1 OFFSET ?)",
                    (settings.max_sessions,),
                )


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _newest(entries: dict[bytes, _T]) -> dict[bytes, _T]:
    """Return the entries, without the oldest where there are too many."""
    return dict(list(entries.items())[-_MOST_WAITING:])
