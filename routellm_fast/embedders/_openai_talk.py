"""Asking one server for vectors, and again in another way as long as its answers teach one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._openai_answer import Flaw, UnfitAnswer, parse_answer
from routellm_fast.embedders._openai_batches import BatchLimit
from routellm_fast.embedders._openai_manners import NEVER, Manners
from routellm_fast.embedders._openai_settings import Settings
from routellm_fast.errors import EmbeddingError, InvalidEmbeddingError

# OpenAI takes 300,000 tokens a request, and a token is at least a byte.
_MAX_REQUEST_BYTES: Final = 300_000
# Embedded to learn the length of vectors.
_PROBE: Final = "dimension"
# An answer may hold each number as text, all digits of a float64 with blanks and a line of its own.
_BYTES_PER_NUMBER: Final = 48
_BYTES_PER_TEXT: Final = 1 << 10
_BYTES_PER_ANSWER: Final = 1 << 16
# Far more than any model's, where it is not known.
_MOST_DIM: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Question:
    """A request.

    Attributes:
        body: What is sent as JSON.
        most_bytes: The most bytes that a good answer can have.
    """

    body: dict[str, Any]
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request without an answer to read.

    Attributes:
        error: What to raise unless the server is asked in another way.
        status: HTTP status; None where there was no answer.
        reason: What the server wrote.
        is_oversized: Whether the answer has more bytes than vectors of the expected length.
    """

    error: EmbeddingError
    status: int | None = None
    reason: str = ""
    is_oversized: bool = False


# Yields each request, takes its answer, and returns the vectors of its texts: the way of talking to a server is the
# same for `embed` and `aembed`, which only send differently.
Talk = Generator[Question, "bytes | Refusal", FloatArray]


class Talker:
    """What to ask one server, and how it wants to be asked, as it has answered so far. Thread-safe."""

    def __init__(
        self, settings: Settings, shown: Callable[[str], str], locked: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Know nothing of the server yet.

        Args:
            settings: Model, server and limits.
            shown: Returns what may be shown of a text that the server wrote.
            locked: Returns the lock to hold while what was learned is changed.
        """
        self._settings = settings
        self._shown = shown
        self._locked = locked
        self._learned = settings.first_manners()
        self._limit = BatchLimit(settings.batch_size)

    def batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Yield the texts in requests that the server takes."""
        batch: list[str] = []
        batch_bytes = 0
        for text in texts:
            text_bytes = len(text.encode())
            if batch and (len(batch) >= self._limit.most_texts or batch_bytes + text_bytes > _MAX_REQUEST_BYTES):
                yield batch
                batch, batch_bytes = [], 0
            batch.append(text)
            batch_bytes += text_bytes
        if batch:
            yield batch

    def talk(self, texts: list[str], dim: int) -> Talk:
        """Ask for the vectors of one or more texts."""
        return self._talk(texts, dim, replace(self._learned, most_texts=self._limit.most_texts))

    def probe(self) -> Talk:
        """Ask for one vector as a list of numbers, whose length is beyond doubt."""
        settings = self._settings
        encoding = "none" if settings.encoding_format == "auto" else settings.encoding_format
        manners = Manners.of(encoding, NEVER, 1, is_shortened=False)
        try:
            return (yield from self._talk([_PROBE], None, manners))
        except EmbeddingError as error:
            failure = type(error)(
                f"the dim of {settings.model!r} is not known, and its server was asked in vain: {error} Or give dim=, "
                "the length of its vectors."
            )
        raise failure

    def _talk(self, texts: list[str], dim: int | None, manners: Manners) -> Talk:
        """Ask, and again in another way where an answer teaches one.

        What was answered is remembered; a way that the server refuses too is not.
        """
        begun = manners
        waiting = [texts]  # the next at the end
        parts: list[FloatArray] = []
        # What the server said before it was asked for other dimensions than at first: if that is of no use, the cause.
        doubt: EmbeddingError | None = None
        while waiting:
            batch = waiting.pop()
            if len(batch) > manners.most_texts:
                waiting.append(batch[manners.most_texts :])
                batch = batch[: manners.most_texts]
            said = yield self._question(batch, dim, manners)
            failure: EmbeddingError
            if isinstance(said, Refusal):
                failure, changed = said.error, manners.after_refusal(said.status, said.reason, len(batch))
                if said.is_oversized:
                    changed = manners.after_another_dim()
            else:
                try:
                    parts.append(parse_answer(said, len(batch), dim, self._settings.shown_endpoint, self._shown))
                except UnfitAnswer as unfit:
                    failure, changed = InvalidEmbeddingError(str(unfit)), _after_flaw(unfit.flaw, manners)
                else:
                    self._remember(begun, manners, len(batch))
                    if manners is not begun:
                        begun, doubt = manners, None
                    continue
            # Raised outside of a handler, an error carries none that holds the server's text.
            if changed is None:
                raise doubt or failure
            if changed.sends_dimensions != manners.sends_dimensions:
                doubt = failure
            waiting.append(batch)
            manners = changed
        return joined(parts, dim)

    def _question(self, batch: list[str], dim: int | None, manners: Manners) -> Question:
        body: dict[str, Any] = {"model": self._settings.model, "input": batch}
        if manners.encoding is not None:
            body["encoding_format"] = manners.encoding
        if manners.sends_dimensions:
            body["dimensions"] = dim
        return Question(body, most_bytes_of(len(batch), dim))

    def _remember(self, begun: Manners, manners: Manners, count: int) -> None:
        with self._locked():
            if manners is not begun:
                self._learned = self._learned.with_learned(manners)
                if manners.most_texts < begun.most_texts:
                    self._limit.refused(manners.most_texts)
            self._limit.took(count)


def most_bytes_of(count: int, dim: int | None) -> int:
    """Return the most bytes of an answer with so many vectors, in the longest form; with None, vectors of any model."""
    return _BYTES_PER_ANSWER + count * (_BYTES_PER_TEXT + _BYTES_PER_NUMBER * (dim or _MOST_DIM))


def joined(answers: Sequence[FloatArray], dim: int | None) -> FloatArray:
    """Return the rows of all answers; `dim` is the length of a row where there is none."""
    if len(answers) == 1:
        return answers[0]
    return np.concatenate(answers) if answers else np.empty((0, dim or 0), dtype=np.float32)


def _after_flaw(flaw: Flaw, manners: Manners) -> Manners | None:
    if flaw is Flaw.USELESS:
        return manners.after_useless_answer()
    return manners.after_another_dim() if flaw is Flaw.ANOTHER_DIM else None
