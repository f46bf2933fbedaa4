"""The tokens that a causal language model reads of a prompt; made without the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from routellm_fast.routers.causal.prompt import PromptFormat, Truncation, fitted

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TextTokens:
    """Tokens of texts, by a `tokenizers.Tokenizer`. Immutable and thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        """Keep the tokenizer."""
        self.tokenizer = tokenizer

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """The spellings that the tokenizer reads as control tokens, the longest first."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(sorted((token.content for token in added if token.special and token.content), key=len)[::-1])

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Return tokens and the characters that each covers."""
        # As everywhere here; the tokenizer takes none, and offsets stay.
        plain = text if text.isascii() else _SURROGATE.sub("\ufffd", text)
        encoding = self.tokenizer.encode(plain, add_special_tokens=add_special_tokens)
        return encoding.ids, encoding.offsets


class PromptRows:
    """The tokens of a prompt with the text around it, and those of the header behind it. Immutable and thread-safe."""

    def __init__(
        self,
        tokens: TextTokens,
        prompt: PromptFormat,
        *,
        score_tokens: Sequence[str],
        max_tokens: int,
        truncation: Truncation,
    ) -> None:
        """Keep the rules.

        Args:
            tokens: The tokenizer.
            prompt: The text around a question.
            score_tokens: Which a question may not hold.
            max_tokens: Most tokens, those of the header included.
            truncation: Where a longer question is cut.
        """
        self._tokens, self._prompt, self._score_tokens = tokens, prompt, tuple(score_tokens)
        # Encoded alone, as the loop writes it: it starts with a control token, over which nothing merges.
        self.header = tokens.encode(prompt.header, add_special_tokens=False)[0] if prompt.header else []
        self._room, self._truncation = max_tokens - len(self.header), truncation

    def encode(self, prompt: str) -> tuple[list[int], bool]:
        """Return a prompt's tokens without the header, and whether its question was cut."""
        form = self._prompt
        question = form.question(prompt, (*self._tokens.control_texts, *self._score_tokens))
        ids, offsets = self._tokens.encode(
            form.before + question + form.after, add_special_tokens=form.add_special_tokens
        )
        if len(ids) <= self._room:
            return ids, False
        place = (len(form.before), len(form.before) + len(question))
        return fitted(ids, offsets, place, self._room, self._truncation), True

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that are read of each prompt, the header included."""
        return [self.encode(prompt)[0] + self.header for prompt in prompts]
