"""Files that only save time, such as a cache's: whole, or made again."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Final

from routellm_fast.atomic import replaced_file

_LOGGER: Final = logging.getLogger(__name__)
_DIGEST_BYTES: Final = 32


def read_kept(path: Path) -> bytes | None:
    """Return what `write_kept` wrote; None where there is no file, and, with a warning, where it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _LOGGER.warning("%s cannot be read (%s), and is made again", path, error.strerror or error)
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        _LOGGER.warning("%s is damaged, and is made again", path)
        return None
    return content


def write_kept(path: Path, content: bytes) -> None:
    """Write a file with its SHA-256 before its content, whole or not at all; its folder is made if it is missing.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)
