"""Tokenizers in Hugging Face's format tokenizer.json: BERT's WordPiece runs natively, all others by their library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from routellm_fast._core import WordPieceTokenizer
from routellm_fast.errors import ArtifactFormatError, EmbeddingError
from routellm_fast.extras import require


def parse_tokenizer(content: bytes) -> dict[str, Any]:
    """Return the JSON object in a tokenizer.json after checking the parts that this package reads.

    Raises:
        ArtifactFormatError: The content is not JSON, or a part has a type that Hugging Face's tokenizers never writes.
    """
    try:
        spec = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactFormatError(f"tokenizer.json is not valid JSON ({error})") from error
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise ArtifactFormatError(
            "tokenizer.json must hold an object with a model, as Hugging Face's tokenizers writes it"
        )
    for part, fits in _PARTS.items():
        value = _part(spec, part)
        if value is not None and not fits(value):
            raise ArtifactFormatError(
                f"tokenizer.json: {part} is {_shortened(value)}, which Hugging Face's tokenizers would not write"
            )
    return spec


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def _is_added_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str) and _is_id(value.get("id"))


def _is_vocabulary(value: Any) -> bool:
    """Say whether this maps tokens to ids, or is a unigram model's list of [token, score]."""
    if isinstance(value, dict):
        return all(_is_id(index) for index in value.values())
    return isinstance(value, list) and all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) for entry in value
    )


# The parts of a tokenizer.json that this package reads, and what each must be where it is present.
_PARTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "normalizer": lambda value: isinstance(value, dict),
    "pre_tokenizer": lambda value: isinstance(value, dict),
    "added_tokens": lambda value: isinstance(value, list) and all(_is_added_token(token) for token in value),
    "model.vocab": _is_vocabulary,
    "model.max_input_chars_per_word": _is_id,
    "model.continuing_subword_prefix": lambda value: isinstance(value, str),
    "model.unk_token": lambda value: isinstance(value, str),
    "model.unk_id": _is_id,
}


def _part(spec: Mapping[str, Any], path: str) -> Any:
    *parents, name = path.split(".")
    for parent in parents:
        spec = spec[parent]
    return spec.get(name)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."


def native_tokenizer(spec: Mapping[str, Any]) -> WordPieceTokenizer | None:
    """Return the native tokenizer for a parsed tokenizer.json, or None where only Hugging Face's library can run it.

    The native tokenizer runs a WordPiece model behind BERT's normalizer and pre-tokenizer.

    Raises:
        ArtifactFormatError: The file describes such a tokenizer, but is damaged.
    """
    model, normalizer = spec["model"], spec.get("normalizer") or {}
    if (
        model.get("type") != "WordPiece"
        or normalizer.get("type") != "BertNormalizer"
        or (spec.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer"
    ):
        return None
    vocabulary = _vocabulary_list(model.get("vocab"))
    added = _plain_added_tokens(spec.get("added_tokens") or [])
    if vocabulary is None or added is None:
        return None
    unknown = model.get("unk_token")
    if not isinstance(unknown, str) or unknown not in model["vocab"]:
        raise ArtifactFormatError(f"tokenizer.json: the unknown token {unknown!r} is not in the vocabulary")
    lowercase = bool(normalizer.get("lowercase", True))
    strip_accents = normalizer.get("strip_accents")
    return WordPieceTokenizer(
        vocabulary,
        unk_id=model["vocab"][unknown],
        clean_text=bool(normalizer.get("clean_text", True)),
        handle_chinese_chars=bool(normalizer.get("handle_chinese_chars", True)),
        strip_accents=lowercase if strip_accents is None else bool(strip_accents),
        lowercase=lowercase,
        max_word_chars=_given(model.get("max_input_chars_per_word"), 100),
        continuing_prefix=_given(model.get("continuing_subword_prefix"), "##"),
        added_tokens=added,
    )


def unknown_token_id(spec: Mapping[str, Any]) -> int | None:
    """Return the id of the token that stands for unknown words, or None where the model has no such token."""
    model = spec["model"]
    unknown, vocabulary = model.get("unk_token"), model.get("vocab")
    by_name: int | None = vocabulary.get(unknown) if isinstance(vocabulary, dict) else None
    unk_id: int | None = model.get("unk_id")
    return by_name if unk_id is None else unk_id


class LibraryTokenizer:
    """Turns texts into token ids by Hugging Face's library, for tokenizers that `native_tokenizer` cannot run."""

    def __init__(self, content: bytes) -> None:
        """Build from the bytes of a tokenizer.json.

        Raises:
            MissingExtraError: The library `tokenizers` is not installed.
            ArtifactFormatError: The library refuses the file.
        """
        tokenizers = require("tokenizers", "tokenizers")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise ArtifactFormatError(f"tokenizer.json was refused by the tokenizers library: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens; lone surrogates are read as U+FFFD, as natively.

        Raises:
            EmbeddingError: The library failed.
        """
        clean = [text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for text in texts]
        try:
            encodings = self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception here too
            raise EmbeddingError(f"the tokenizers library failed on a text: {error}") from error
        return [encoding.ids for encoding in encodings]


def _vocabulary_list(vocabulary: Any) -> list[str] | None:
    """Return the tokens in the order of their ids, or None where the ids have gaps."""
    if not isinstance(vocabulary, dict):
        raise ArtifactFormatError("tokenizer.json: a WordPiece vocabulary maps tokens to integers")
    tokens: list[str | None] = [None] * len(vocabulary)
    for token, index in vocabulary.items():
        if not 0 <= index < len(tokens):
            return None
        tokens[index] = token
    return None if None in tokens else [token for token in tokens if token is not None]


def _plain_added_tokens(added: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]] | None:
    """Return (content, id) of each added token, or None where one asks for more than an exact match."""
    if any(token.get(flag) for token in added for flag in ("single_word", "lstrip", "rstrip", "normalized")):
        return None
    return [(token["content"], token["id"]) for token in added]
