"""JSON that was read from files: one parser, the compiled one, for every file of a directory and for users' own.

Its rules are in `docs/artifact-format.md`. What it refuses, the C library and the Triton backend refuse as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from routellm_fast import _core
from routellm_fast.errors import ArtifactFormatError, DataError, RouteLLMError
from routellm_fast.memory import enough_memory

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def parse_json(content: bytes, where: Path | str) -> Any:
    """Return the value of a JSON document of a directory.

    Args:
        content: The document: UTF-8 without a byte order mark.
        where: Where it was read, for messages.

    Raises:
        ArtifactFormatError: It breaks a rule; the text names the byte.
    """
    return _parsed(content, where, ArtifactFormatError)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file of a directory holds.

    Raises:
        ArtifactFormatError: It cannot be read, breaks a rule of JSON, or holds something else.
        ArtifactMemoryError: It takes more memory than there is.
    """
    try:
        with enough_memory(path):
            found = parse_json(path.read_bytes(), path)
    except OSError as error:
        raise ArtifactFormatError(f"{path} cannot be read ({error.strerror or error})") from error
    if not isinstance(found, dict):
        raise ArtifactFormatError(f"{path} must hold a JSON object, found {type(found).__name__}")
    return found


def read_json(path: Path) -> Any:
    """Return what a user's own file holds, which may begin with a byte order mark, as some editors write it.

    Raises DataError where it cannot be read, is not UTF-8, or is no JSON.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DataError(f"{path} needs more memory than this process can get") from error
    from routellm_fast.tables import check_text  # most programs read no file of a user's

    check_text(content, path)
    return _parsed(content.removeprefix(_BYTE_ORDER_MARK), path, DataError)


def _parsed(content: bytes, where: Path | str, fault: type[RouteLLMError]) -> Any:
    try:
        return _core.parse_json(content)
    except ArtifactFormatError as error:
        raise fault(f"{where} is not valid JSON ({error})") from error
