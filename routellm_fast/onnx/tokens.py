"""From text to the token ids that a transformer reads: special tokens around it, cut at the model's length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.tokenization import LibraryTokenizer, native_tokenizer, parse_tokenizer

# The library reads a whole text before it cuts: ten megabytes would cost seconds for 512 tokens.
_MAX_CODE_POINTS_PER_TOKEN: Final = 64


class TokenEncoder:
    """Token ids as Hugging Face's `tokenizer(text, truncation=True)` makes them. Immutable and thread-safe.

    BERT's WordPiece runs natively, anything else in the `tokenizers` library. There a text is cut first to 64
    characters a token of the limit.
    """

    def __init__(self, tokenizer_json: bytes, max_tokens: int) -> None:
        """Read a tokenizer.json.

        Args:
            tokenizer_json: A tokenizer.json; the truncation and padding in it are not used.
            max_tokens: Most ids of a text, special tokens included.

        Raises:
            ArtifactFormatError: It is damaged, or puts around a text what is not known here.
            InvalidArgumentError: There is no room for a token between the special ones.
            MissingExtraError: It needs the library, which is not installed.
        """
        before, after = _around(parse_tokenizer(tokenizer_json).get("post_processor"))
        self._before, self._after = before, after
        self._room = max_tokens - len(before) - len(after)
        if self._room < 1:
            raise InvalidArgumentError(
                f"max_tokens must be above the {len(before) + len(after)} special tokens, found {max_tokens}"
            )
        self._limit = self._room * _MAX_CODE_POINTS_PER_TOKEN
        self._native = native_tokenizer(tokenizer_json).tokenizer
        self._library = LibraryTokenizer(tokenizer_json) if self._native is None else None

    @property
    def is_native(self) -> bool:
        """Whether the native tokenizer reads it."""
        return self._native is not None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, at least the special tokens."""
        if self._native is not None:
            found = [self._native.encode(text, self._room).tolist() for text in texts]
        else:
            assert self._library is not None  # noqa: S101 - one of the two is there
            found = [ids[: self._room] for ids in self._library.encode([text[: self._limit] for text in texts])]
        return [[*self._before, *ids, *self._after] for ids in found]

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether `encode` reads all of it."""
        native = self._native
        if native is not None:
            return [self._is_short(text) or len(native.encode(text, self._room + 1)) <= self._room for text in texts]
        assert self._library is not None  # noqa: S101 - one of the two is there
        found = self._library.encode([text[: self._limit] for text in texts])
        return [len(text) <= self._limit and len(ids) <= self._room for text, ids in zip(texts, found, strict=True)]

    def _is_short(self, text: str) -> bool:
        """Whether a text fits for certain: BERT's tokens are never more than bytes, so most need no second reading."""
        return len(text) <= self._room and len(text.encode("utf-8", "surrogatepass")) <= self._room


def _around(processor: Any) -> tuple[list[int], list[int]]:
    """Return the ids before and after a text."""
    if processor is None:
        return [], []
    kind = processor.get("type") if isinstance(processor, dict) else None
    try:
        if kind == "ByteLevel":  # moves offsets, adds nothing
            return [], []
        if kind == "Sequence":
            parts = [_around(part) for part in processor["processors"]]
            adding = [part for part in parts if part != ([], [])]
            if len(adding) <= 1:
                return adding[0] if adding else ([], [])
        if kind in ("BertProcessing", "RobertaProcessing"):
            return [_id(processor["cls"][1])], [_id(processor["sep"][1])]
        if kind == "TemplateProcessing":
            return _template(processor)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactFormatError(f"tokenizer.json: its post_processor {kind} is damaged ({error!r})") from error
    raise ArtifactFormatError(
        f"tokenizer.json: its post_processor is {kind!r}; known are TemplateProcessing, BertProcessing, "
        "RobertaProcessing, and ByteLevel beside one of these"
    )


def _template(processor: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for piece in processor["single"]:
        ((kind, content),) = piece.items()
        if content["type_id"] != 0:
            raise ValueError("another type_id than 0 in the template of a single text")
        if kind == "Sequence":
            texts += 1
        else:
            sides[min(texts, 1)].extend(_id(token) for token in processor["special_tokens"][content["id"]]["ids"])
    if texts != 1:
        raise ValueError(f"{texts} texts in the template of a single one")
    return sides


def _id(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no token id")
    return value
