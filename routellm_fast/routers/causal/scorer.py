"""From a prompt to a win rate by one pass of a causal language model.

RouteLLM lets the model generate: it ends the prompt before the assistant's header, decodes greedily up to six tokens,
and at the first score token takes the softmax of the five score logits. Six passes, mostly to read a header that is
always the same. Here the header is appended and the five logits are read at the last position.

When the two are equal. Attention is causal: a pass over prompt and header has at each position the logits that the loop
saw there. So the loop arrives at the same logits exactly if greedy decoding

1. writes the header, token by token, and
2. writes a score token next,

and header and score together are no longer than the loop. A model that was fine-tuned on such turns does both. The
second is always looked at: where another token is the likeliest, no score is made up, and the win rate is 1.0, which
sends the prompt to the strong model as RouteLLM does; `unscored` counts these. The first is looked at with
`faithful=True`, in the same pass; a prompt that fails either check is then decoded as RouteLLM would, step by step.
With it results are RouteLLM's whatever the model does; without it, a prompt for which the model would not write the
header gets the score that it gives after one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import InvalidArgumentError, ScoringError
from routellm_fast.routers.causal.model import LanguageModel
from routellm_fast.routers.causal.prompt import SCORE_TOKENS, PromptFormat, Truncation, check_truncation
from routellm_fast.routers.causal.tokens import PromptRows

# Shorter ones cost less to read again than to copy.
_MIN_PREFIX_TOKENS: Final = 8
# Beyond rounding of the widest type in use, and far below what a wrong mask does.
_PREFIX_TOLERANCE: Final = 0.25
_PROBES: Final = ("", "a", " a", "\n", "7", "(", "\u4e2d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What a win rate depends on besides model and prompt format.

    Attributes:
        score_tokens: The tokens that are scores, from 1 on; a higher one says that the weak model does better.
        score_threshold: Scores from here on say that the weak model will do.
        max_tokens: Tokens of a prompt at most, the text around the question included.
        truncation: What a longer question keeps; see `fitted`.
        faithful: Whether to check that the model would write the header, and to decode step by step where not.
        max_new_tokens: How many tokens the loop writes at most; 6 is RouteLLM's.
        stop_ids: Tokens that end the loop.
    """

    score_tokens: tuple[str, ...] = SCORE_TOKENS
    score_threshold: int = 4
    max_tokens: int = 2048
    truncation: Truncation = "middle"
    faithful: bool = False
    max_new_tokens: int = 6
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what breaks a rule, as a directory may hold it."""
        check_truncation(self.truncation)
        names = self.score_tokens
        fits = len(set(names)) == len(names) >= 2 and all(isinstance(name, str) and name for name in names)
        counts = (self.score_threshold, self.max_tokens, self.max_new_tokens, *self.stop_ids)
        fits = fits and all(type(count) is int and count >= 0 for count in counts) and isinstance(self.faithful, bool)
        if not fits or not 2 <= self.score_threshold <= len(names) or not self.max_tokens or not self.max_new_tokens:
            raise InvalidArgumentError(
                "scoring takes at least 2 distinct score tokens, a threshold from 2 to their number, max_tokens and "
                f"max_new_tokens of at least 1, faithful True or False and stop_ids; found {self}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest keeps."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class ScoringCounts:
    """What became of the prompts that were scored.

    Attributes:
        prompts: All of them.
        unscored: Those for which the model named no score; their win rate is 1.0.
        truncated: Those whose question was cut.
        decoded: Those that were decoded step by step; with `faithful` only.
    """

    prompts: int = 0
    unscored: int = 0
    truncated: int = 0
    decoded: int = 0


class PrefillScorer:
    """Win rates of prompts by one pass each. Thread-safe; only its counts change."""

    def __init__(self, model: LanguageModel, prompt: PromptFormat, scoring: Scoring, *, batch_size: int = 1) -> None:
        """Find the score tokens and check that the text around a question fits.

        Args:
            model: The language model.
            prompt: The text around a question.
            scoring: The rules.
            batch_size: Prompts a pass. With 1 a win rate does not depend on the other prompts, bitwise; a wider batch
                has sums of other shapes, by which win rates move by about 1e-6 in float32 and 1e-2 in bfloat16.

        Raises:
            InvalidArgumentError: The model has no such tokens, or no room.
        """
        if type(batch_size) is not int or batch_size < 1:
            raise InvalidArgumentError(f"batch_size is an integer of at least 1, found {batch_size!r}")
        self.model, self.prompt, self.scoring, self.batch_size = model, prompt, scoring, batch_size
        self.score_ids = score_ids(model, scoring.score_tokens)
        self._rows = PromptRows(
            model.tokens,
            prompt,
            score_tokens=scoring.score_tokens,
            max_tokens=scoring.max_tokens,
            truncation=scoring.truncation,
        )
        self._header = self._rows.header
        if scoring.faithful and len(self._header) >= scoring.max_new_tokens:
            raise InvalidArgumentError(
                f"a header of {len(self._header)} tokens leaves no score in {scoring.max_new_tokens} new tokens"
            )
        limit = model.max_positions
        if limit is not None and scoring.max_tokens + scoring.max_new_tokens > limit + 1:
            raise InvalidArgumentError(
                f"max_tokens {scoring.max_tokens} and {scoring.max_new_tokens} new ones are more than the model's "
                f"{limit} positions"
            )
        self._rows.encode("")  # raises where the text around a question does not fit
        self._lock = threading.Lock()
        self._counts = ScoringCounts()

    @property
    def counts(self) -> ScoringCounts:
        """What became of the prompts so far."""
        return self._counts

    @property
    def header_tokens(self) -> int:
        """How many tokens are appended to a prompt."""
        return len(self._header)

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that are read of each prompt, the header included."""
        return self._rows.rows(prompts)

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates.

        Raises:
            ScoringError: A logit is not finite.
        """
        result = np.empty(len(prompts), dtype=np.float32)
        encoded = [self._rows.encode(prompt) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index][0]))  # little padding
        counts = ScoringCounts(prompts=len(prompts), truncated=sum(cut for _, cut in encoded))
        for start in range(0, len(order), self.batch_size):
            members = order[start : start + self.batch_size]
            found = self._logits([encoded[index][0] for index in members])
            for index, (logits, decoded) in zip(members, found, strict=True):
                result[index] = 1.0 if logits is None else self._win_rate(logits)
                unscored = counts.unscored + (logits is None)
                counts = replace(counts, unscored=unscored, decoded=counts.decoded + decoded)
        with self._lock:
            old = self._counts
            self._counts = ScoringCounts(
                *(getattr(old, name) + getattr(counts, name) for name in ScoringCounts.__dataclass_fields__)
            )
        return result

    def _win_rate(self, logits: FloatArray) -> float:
        wide = logits.astype(np.float64)
        odds = np.exp(wide - wide.max())
        # Summing the other side gives no 1 - 1e-17, and never a value outside [0, 1].
        return min(1.0, float(odds[: self.scoring.score_threshold - 1].sum() / odds.sum()))

    def _logits(self, prompts: list[list[int]]) -> list[tuple[FloatArray | None, bool]]:
        """Return each prompt's score logits, None for no score, and whether it was decoded step by step."""
        faithful = self.scoring.faithful
        last = 1 + (len(self._header) if faithful else 0)
        tops, values = self._read([ids + self._header for ids in prompts], last)
        found: list[tuple[FloatArray | None, bool]] = []
        for ids, top, logits in zip(prompts, tops, values, strict=True):
            if int(top[-1]) in self.score_ids and (not faithful or top[:-1].tolist() == self._header):
                found.append((logits, False))
            else:
                found.append((self._decode(ids), True) if faithful else (None, False))
        return found

    def _decode(self, ids: list[int]) -> FloatArray | None:
        """Decode greedily, as RouteLLM does, up to a score token."""
        for _ in range(self.scoring.max_new_tokens):
            tops, values = self._read([ids], 1)
            token = int(tops[0, -1])
            if token in self.score_ids:
                logits: FloatArray = values[0]
                return logits
            if token in self.scoring.stop_ids:
                return None
            ids = [*ids, token]
        return None

    def _read(self, rows: list[list[int]], last: int) -> tuple[Any, FloatArray]:
        prefix = self._prefix
        if prefix is not None:
            ids, cache = prefix
            # A prefix that reaches to the positions asked for would leave too little to read.
            if all(row[: len(ids)] == ids and len(row) >= len(ids) + last for row in rows):
                return self.model.read(rows, last=last, columns=self.score_ids, prefix=(len(ids), cache))
        return self.model.read(rows, last=last, columns=self.score_ids)

    @cached_property
    def _prefix(self) -> tuple[list[int], Any] | None:
        """The tokens before every question, with what the layers make of them: they are the most of a short prompt.

        None where they are few, or where the architecture does not give the same logits from a cache.
        """
        rows = self.rows(_PROBES)
        length = 0
        while len({tuple(row[: length + 1]) for row in rows}) == 1 and length < min(map(len, rows)) - 1:
            length += 1
        length = min(length, min(map(len, rows)) - len(self._header) - 1)
        if length < _MIN_PREFIX_TOKENS:
            return None
        row, ids = rows[1], rows[1][:length]
        _, expected = self.model.read([row], last=1, columns=self.score_ids)
        try:
            cache = self.model.prefix_cache(ids)
            _, found = self.model.read([row], last=1, columns=self.score_ids, prefix=(length, cache))
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, ScoringError):
            return None  # an architecture without such a cache is read whole
        return (ids, cache) if np.abs(found - expected).max() <= _PREFIX_TOLERANCE else None


def score_ids(model: LanguageModel, tokens: Sequence[str]) -> list[int]:
    """Return the score tokens' ids.

    Raises:
        InvalidArgumentError: The tokenizer has no such token, or the model no row for one.
    """
    ids = [model.tokenizer.token_to_id(token) for token in tokens]
    missing = [token for token, number in zip(tokens, ids, strict=True) if number is None]
    beyond = [token for token, number in zip(tokens, ids, strict=True) if number is not None]
    beyond = [token for token in beyond if model.tokenizer.token_to_id(token) >= model.output_rows]
    if missing or beyond:
        what = f"the tokenizer has no {', '.join(missing)}" if missing else f"the model has no row for {beyond[0]}"
        raise InvalidArgumentError(
            f"{what} ({model.output_rows:,} rows): it was not fine-tuned to score prompts. "
            "`routellm-fast train causal_llm` makes such a model of it."
        )
    return ids
