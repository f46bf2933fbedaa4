"""Tokenizers in Hugging Face's format tokenizer.json: BERT's WordPiece runs natively, all others by their library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from routellm_fast._core import WordPieceTokenizer, read_tokenizer_json
from routellm_fast.errors import ArtifactFormatError, EmbeddingError
from routellm_fast.extras import require
from routellm_fast.json_file import parse_json


class NativeTokenizer(NamedTuple):
    """What the core reads of a tokenizer.json.

    Attributes:
        tokenizer: A WordPiece model behind BERT's normalizer and pre-tokenizer; None for any other tokenizer, which
            only Hugging Face's library runs.
        unknown_token: Id of the token that stands for unknown words; None where there is none.
    """

    tokenizer: WordPieceTokenizer | None
    unknown_token: int | None


def native_tokenizer(content: bytes) -> NativeTokenizer:
    """Return what the core reads of a tokenizer.json.

    Raises:
        ArtifactFormatError: The file is damaged: it is not JSON, or not what Hugging Face's tokenizers writes.
    """
    return NativeTokenizer(*read_tokenizer_json(content))


def parse_tokenizer(content: bytes) -> dict[str, Any]:
    """Return the JSON object in a tokenizer.json, for what native_tokenizer does not read.

    Raises:
        ArtifactFormatError: As of native_tokenizer.
    """
    native_tokenizer(content)
    spec: dict[str, Any] = parse_json(content, "tokenizer.json")
    return spec


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
