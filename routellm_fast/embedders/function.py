"""An embedder made of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.base import fingerprint_of
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.texts import check_texts


class FunctionEmbedder:
    """Adapts any function from a list of texts to an array, such as sentence-transformers' `model.encode`.

    Thread-safe if the function is. What the function raises comes through as it is; what it returns is checked.

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
            function: Takes n texts, n >= 1, and returns real numbers of shape (n, dim): an array or nested lists. It
                gets texts as they are, empty ones and lone surrogates included.
            dim: Length of a vector, >= 1.
            name: A readable name, e.g. "sbert:all-MiniLM-L6-v2".
            fingerprint: Identity of model and preprocessing. A function shows none of its own, so this one is
                believed: a router or cache takes two embedders with equal fingerprints for the same. None: made of
                name and dim, so choose another name whenever the vectors change.

        Raises:
            TypeError: The function is not callable.
            InvalidArgumentError: dim is below 1, or the name or fingerprint is empty.
        """
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        if dim < 1:
            raise InvalidArgumentError(f"dim must be at least 1, found {dim}")
        if not name or fingerprint == "":
            raise InvalidArgumentError(
                "name and fingerprint must not be empty: they tell the function's vectors from others"
            )
        self._function = function
        self._dim = dim
        self._name = name
        self._fingerprint = fingerprint or fingerprint_of({"kind": "function", "name": name, "dim": dim})

    @property
    def name(self) -> str:
        """The name as given."""
        return self._name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Identity as given, or of name and dim."""
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32; the function is not called for no texts.

        Raises:
            InvalidEmbeddingError: The function returned another shape, no numbers, or a value that is not finite.
        """
        items = check_texts(texts)
        if not items:
            return np.empty((0, self._dim), dtype=np.float32)
        vectors = check_vectors(self._function(items), len(items), self._dim, f"the function of {self._name}")
        # The function may keep what it returned: the caller gets an array of its own.
        return np.array(vectors)

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """As `embed`, in a thread: the event loop goes on."""
        import asyncio  # see openai.py: too heavy for programs without an event loop

        return await asyncio.to_thread(self.embed, texts)

    def __repr__(self) -> str:
        """Name and dim."""
        return f"FunctionEmbedder(name={self._name!r}, dim={self._dim})"
