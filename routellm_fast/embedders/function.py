"""An embedder that calls a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.base import checked_dim, fingerprint_of
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.texts import check_texts


class FunctionEmbedder:
    """Adapts any function from a list of texts to an array, such as sentence-transformers' `model.encode`.

    Thread-safe if the function is. The function's exceptions pass through unchanged; its result is checked.

    It pickles if the function does: one that a module defines does, by its name; a lambda does not.
    """

    def __init__(
        self,
        function: Callable[[list[str]], Any],
        *,
        dim: int,
        name: str,
        fingerprint: str | None = None,
    ) -> None:
        """Wrap a function.

        Args:
            function: Takes n texts, n >= 1, and returns real numbers of shape (n, dim): an array or nested lists.
                Texts are passed unchanged, empty texts and lone surrogates included.
            dim: Number of values in a vector, >= 1.
            name: A name for people, e.g. "sbert:all-MiniLM-L6-v2".
            fingerprint: Identity of the model and its preprocessing. Routers and caches treat two embedders with equal
                fingerprints as the same, and nothing can check this for a function. None makes one of name and dim:
                then choose another name whenever the vectors change.

        Raises:
            TypeError: The function is not callable, or the name or the fingerprint is no text.
            InvalidArgumentError: dim is no integer of at least 1, or the name or the fingerprint is empty.
        """
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        for what, text in (("name", name), ("fingerprint", fingerprint)):
            if not isinstance(text, str) and not (what == "fingerprint" and text is None):
                raise TypeError(f"{what} must be str, not {type(text).__name__}")
        if not name or fingerprint == "":
            raise InvalidArgumentError(
                "name and fingerprint must not be empty: they tell this function's vectors from those of others"
            )
        self._function = function
        self._dim = checked_dim(dim)
        self._name = name
        self._fingerprint = fingerprint or fingerprint_of({"kind": "function", "name": name, "dim": self._dim})

    @property
    def name(self) -> str:
        """The name that was given."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """The fingerprint that was given, else one of name and dim."""
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32. Where there are no texts, the function is not called.

        Raises:
            TypeError: An element is not a str.
            InvalidEmbeddingError: The function returned another shape, something else than numbers, or a value that is
                not finite.
        """
        items = check_texts(texts)
        if not items:
            return np.empty((0, self._dim), dtype=np.float32)
        vectors = check_vectors(self._function(items), len(items), self._dim, f"the function of {self._name}")
        # The function may keep and change the array that it returned, so the caller gets a copy.
        return np.array(vectors)

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """Return and raise what `embed` does. The function runs in a thread, so that the event loop is not blocked."""
        import asyncio  # see openai.py: too heavy for programs without an event loop

        return await asyncio.to_thread(self.embed, texts)

    def __repr__(self) -> str:
        """Name and dim."""
        return f"FunctionEmbedder(name={self._name!r}, dim={self._dim})"
