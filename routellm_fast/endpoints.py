"""Services that speak OpenAI's API: their address, the key that each may see, and what went wrong, in words.

A key is read by `ApiKey.reveal` alone, and what a server wrote is shown only after `shown` has cut keys out of it.
"""

from __future__ import annotations

import math
import os
import re
from typing import Final
from urllib.parse import urlsplit

from routellm_fast.errors import EndpointError, InvalidArgumentError

OPENAI_URL: Final = "https://api.openai.com/v1"
_KEY_VARIABLE: Final = "OPENAI_API_KEY"
_URL_VARIABLE: Final = "OPENAI_BASE_URL"
_HEADER_SAFE: Final = re.compile("[!-~]+")
_SHORTEST_SECRET: Final = 8
_MAX_SHOWN_CHARS: Final = 300


# --- addresses


def checked_url(url: str) -> str:
    """Return the address in its plainest form: lower-case host, no slash at the end.

    Raises:
        InvalidArgumentError: Not http or https, no host, a query or fragment, or credentials, which are not repeated.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"base_url is no address: {error}") from None
    if "@" in parts.netloc:
        raise InvalidArgumentError("base_url must hold no user name or password: give the key as api_key")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InvalidArgumentError(f"base_url must be like http://localhost:8000/v1, found {url!r}")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def is_openai(url: str) -> bool:
    """Tell whether a checked address is one of OpenAI's own, which may see its keys."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def named_server(base_url: str | None) -> str | None:
    """Return the checked address that is named: base_url, else OPENAI_BASE_URL; None where neither is given.

    Raises:
        InvalidArgumentError: See checked_url.
    """
    url = base_url or os.environ.get(_URL_VARIABLE)
    return checked_url(url) if url else None


def server_of(base_url: str | None) -> str:
    """Return named_server of base_url, and OpenAI's own address where none is named."""
    return named_server(base_url) or OPENAI_URL


def checked_timeout_s(timeout_s: float) -> float:
    """Return a time-out in seconds. Raises InvalidArgumentError unless it is above 0 and finite."""
    if not 0.0 < timeout_s < math.inf:
        raise InvalidArgumentError(f"timeout_s must be above 0 and finite, found {timeout_s}")
    return timeout_s


# --- keys


class ApiKey:
    """A key that no dump of variables shows. Immutable and thread-safe."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None = None) -> None:
        """Keep a key without the blanks around it; None or an empty text for none."""
        self._value = (value or "").strip()

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        """Return the key itself; "none" where there is none, since clients insist on one."""
        return self._value or "none"

    def scrub(self, text: str) -> str:
        """Return the text without the key: servers repeat what they were sent."""
        # "EMPTY" and the like, which local servers are given, are no secrets, and may be words of an answer.
        return text.replace(self._value, "[key]") if len(self._value) >= _SHORTEST_SECRET else text

    def __repr__(self) -> str:
        return "ApiKey(set)" if self._value else "ApiKey(none)"


def key_for(server: str, *, given: ApiKey | None = None, variable: str | None = None) -> ApiKey:
    """Return the key for a server.

    OPENAI_API_KEY goes only to OpenAI's own servers and to the one that OPENAI_BASE_URL names. Any other server gets
    the key given for it, or that of the variable named for it, or none.

    Args:
        server: Its checked address.
        given: The key itself, which goes before any variable.
        variable: Name of the environment variable that holds the key.

    Raises:
        InvalidArgumentError: The named variable is not set.
        EndpointError: OpenAI needs a key and there is none, or the key cannot be sent.
    """
    key = given or ApiKey()
    if not key and variable is not None:
        key = ApiKey(os.environ.get(variable))
        if not key:
            raise InvalidArgumentError(
                f"the environment variable {variable}, which should hold the key for {server}, is not set"
            )
    if not key and (is_openai(server) or _is_environment_server(server)):
        key = ApiKey(os.environ.get(_KEY_VARIABLE))
    if key and not _HEADER_SAFE.fullmatch(key.reveal()):
        raise EndpointError(
            f"the key for {server} holds blanks or characters beyond ASCII, which no header can carry: check for typos"
        )
    if not key and is_openai(server):
        raise EndpointError(
            f"no key for {server}: pass api_key= or set {_KEY_VARIABLE}, or name the variable that holds it"
        )
    return key


def _is_environment_server(server: str) -> bool:
    try:
        return named_server(None) == server
    except InvalidArgumentError:
        return False


# --- failures, in words that follow the address


def shown(text: str, *keys: ApiKey) -> str:
    """Return what may be shown of a text that a server wrote: without keys, on one line, 300 characters at most."""
    for key in keys:  # before the text is cut: half a key is too much
        text = key.scrub(text)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def refused(status: int, asked: str, said: str, *, shorten: str = "shorten it") -> str:
    """Return what an answer of status 400 and above says, and what to do.

    Args:
        status: The HTTP status.
        asked: What the request was for, e.g. "for model 'm'".
        said: What may be shown of the answer.
        shorten: How a text that is too long is made shorter.
    """
    return f"answered status {status} {asked}: {said}. {_advice(status, shorten)}."


def silent(timeout_s: float, attempts: int = 1) -> str:
    """Return that a server did not answer in time, and what to do."""
    return f"gave no answer within {timeout_s:g} s{_tried(attempts)}. Try later, or give a larger timeout_s."


def unreachable(cause: BaseException, said: str, attempts: int = 1) -> str:
    """Return that a connection failed, and what to do; `said` is what may be shown of the cause."""
    return (
        f"cannot be reached{_tried(attempts)}: {type(cause).__name__}: {said}. "
        "Check base_url, the network and whether the server runs."
    )


def _tried(attempts: int) -> str:
    return f", {attempts} attempts" if attempts > 1 else ""


def _advice(status: int, shorten: str) -> str:
    if status in (401, 403):
        return (
            f"Check the key: api_key=, or the variable that holds it; {_KEY_VARIABLE} goes only to OpenAI and to the "
            f"server of {_URL_VARIABLE}"
        )
    if status == 402:
        return "The account has no money left"
    if status == 404:
        return "Check base_url and the model's name"
    if status in (400, 413, 422):
        return f"A text may be longer than the model takes ({shorten}), or the model may not take these parameters"
    if status == 429:
        return "Rate limit or quota: try later, send less at once, or raise max_retries"
    return "The server is at fault: try later" if status >= 500 else "Try later"
