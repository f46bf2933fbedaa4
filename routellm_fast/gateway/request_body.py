"""Reads a request's JSON body, and makes it ask another model without changing any other byte."""

from __future__ import annotations

import json
from json import decoder
from typing import Any, Final, NamedTuple

from routellm_fast.errors import InvalidArgumentError

_BLANKS: Final = " \t\n\r"
# What Python's json reads values by; public in all but the type checkers' files.
_scan: Final[Any] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_scan_string: Final[Any] = decoder.scanstring  # type: ignore[attr-defined]


class RequestBody(NamedTuple):
    """A body whose top level is a JSON object.

    Attributes:
        data: The body as it came.
        fields: The object.
        model: The value of its key "model"; "" where it has none.
        span: Where that value's token begins and ends in the body, in bytes; (0, 0) where there is none.
    """

    data: bytes
    fields: dict[str, Any]
    model: str
    span: tuple[int, int]

    def asking(self, model: str) -> bytes:
        """Return the body with another model; all other bytes are the same. It must have a key "model"."""
        begin, end = self.span
        return b"".join((self.data[:begin], json.dumps(model).encode("ascii"), self.data[end:]))


def read_body(data: bytes) -> RequestBody:
    """Read a body.

    The object's members are read one by one, so that the place of the model's name is known for certain.

    Raises:
        InvalidArgumentError: The body is no UTF-8, no JSON, no object, has a key twice, or its model is no string.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"the body is no UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        ) from None
    try:
        fields, begin, end = _members(text)
    except InvalidArgumentError:
        raise
    except StopIteration as error:
        raise InvalidArgumentError(f"the body is no JSON: a value is missing at character {error.value}") from None
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"the body is no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise InvalidArgumentError("the body's JSON is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidArgumentError(f"the body is no JSON that can be read: {error}") from None
    model = fields.get("model", "") if end else ""
    if not isinstance(model, str):
        raise InvalidArgumentError(f"model must be a string, found {type(model).__name__}")
    if len(text) != len(data):  # not ASCII: places in the text are not those in the bytes
        begin, end = len(text[:begin].encode("utf-8")), len(text[:end].encode("utf-8"))
    return RequestBody(data, fields, model, (begin, end))


def _members(text: str) -> tuple[dict[str, Any], int, int]:
    """Return the object in a text, and where the value of its key "model" begins and ends."""
    fields: dict[str, Any] = {}
    begin = end = 0
    at = _after_blanks(text, 0)
    if text[at : at + 1] != "{":
        raise json.JSONDecodeError("expected an object", text, at)
    at = _after_blanks(text, at + 1)
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError('expected a key in "quotes"', text, at)
            key, at = _scan_string(text, at + 1, True)
            at = _after_blanks(text, at)
            if text[at : at + 1] != ":":
                raise json.JSONDecodeError("expected a colon", text, at)
            value_at = _after_blanks(text, at + 1)
            value, at = _scan(text, value_at)
            if key == "model":
                begin, end = value_at, at
            if key in fields:
                raise InvalidArgumentError(
                    f"the body has the key {key!r:.80} twice: servers differ in which one counts"
                )
            fields[key] = value
            at = _after_blanks(text, at)
            mark = text[at : at + 1]
            at += 1
            if mark == "}":
                break
            if mark != ",":
                raise json.JSONDecodeError("expected a comma or the end of the object", text, at - 1)
            at = _after_blanks(text, at)
    rest = _after_blanks(text, at)
    if rest != len(text):
        raise json.JSONDecodeError("expected nothing after the object", text, rest)
    return fields, begin, end


def _after_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANKS and at < len(text):
        at += 1
    return at
