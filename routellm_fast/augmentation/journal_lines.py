"""The lines of a journal: JSON objects, each with a checksum of itself, so that no damage is taken for a record.

A line is `{..., "crc": "89abcdef"}` in ASCII, with a newline behind it. The checksum is the CRC-32 of all that stands
before `, "crc"`: it finds every damage within 32 bits in a row, and all but one in four billion of any other damage.
Lines that versions of the package before format 2 wrote have none.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from routellm_fast.tables import parse_json_line

MAX_LINE_BYTES: Final = 1 << 28
_MARK: Final = b', "crc": "'
# Within a text a quotation mark has a backslash before it, so the mark never stands within a text.
_TAIL: Final = re.compile(re.escape(_MARK) + rb'([0-9a-f]{8})"\}')
_TAIL_BYTES: Final = len(_MARK) + len('89abcdef"}')
_PRINTABLE: Final = re.compile(rb"[ -~]*")


def line_of(record: Mapping[str, Any]) -> bytes:
    """Return the line of a record. Raises ValueError where it would be longer than MAX_LINE_BYTES."""
    body = json.dumps(record).encode()[:-1]
    line = body + _MARK + b'%08x"}\n' % zlib.crc32(body)
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a record of {len(line):,} bytes is longer than the {MAX_LINE_BYTES:,} that a line may have")
    return line


def record_of(line: bytes, *, needs_checksum: bool) -> dict[str, Any]:
    """Return the record of a line without its newline.

    Args:
        line: The bytes.
        needs_checksum: Whether the line must have a checksum. One that is there is always compared.

    Raises:
        ValueError: The line is no JSON that is taken, or its checksum is missing or does not match.
        TypeError: The line is JSON, and no object.
    """
    tail = _TAIL.fullmatch(line, max(0, len(line) - _TAIL_BYTES))
    if tail is not None and zlib.crc32(line[: tail.start()]) != int(tail[1], 16):
        raise ValueError("its checksum does not match")
    if tail is None and needs_checksum:
        raise ValueError("it has no checksum")
    record = parse_json_line(line.decode())
    if not isinstance(record, dict):
        raise TypeError("it is no JSON object")
    record.pop("crc", None)
    return record


def begun_line(rest: bytes) -> tuple[bytes, bool]:
    """Return what was written of the last line of a file that ends without a newline, and whether it is a whole record.

    A crash in the middle of writing leaves the beginning of a line, and some file systems leave zeros in place of what
    did not reach the disk; these are not returned.

    Raises:
        ValueError: The bytes are not the beginning of a line: it was written whole, and damaged then.
    """
    line = rest.rstrip(b"\0")
    body, mark, tail = line.partition(_MARK)
    expected = b'%08x"}' % zlib.crc32(body)
    if not _PRINTABLE.fullmatch(line) or (mark and not expected.startswith(tail)):
        raise ValueError("it ends without a newline, and not as a line that was cut off")
    return line, bool(mark) and tail == expected
