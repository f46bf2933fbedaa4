"""Keys: where they come from, who may see them, and that nothing written down holds one."""

from __future__ import annotations

import os
import re
from typing import Final

from routellm_fast.endpoints import OPENAI_URL, checked_url, is_openai
from routellm_fast.errors import EndpointError, InvalidArgumentError

_HEADER_SAFE: Final = re.compile("[!-~]+")
_SHORTEST_SECRET: Final = 8
_VARIABLE: Final = "OPENAI_API_KEY"


class ApiKey:
    """A key that no dump of variables shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep a key; an empty one for none."""
        self._value = value

    def reveal(self) -> str:
        """Return the key itself; a server without authentication gets "none"."""
        return self._value or "none"

    def scrub(self, text: str) -> str:
        """Return the text without the key: servers repeat what they were sent."""
        # "EMPTY" and the like, which local servers are given, are no secrets, and may be words of an answer.
        return text.replace(self._value, "[key]") if len(self._value) >= _SHORTEST_SECRET else text

    def __repr__(self) -> str:
        return "ApiKey(set)" if self._value else "ApiKey(none)"


def server_of(base_url: str | None) -> str:
    """Return the server's address in its plainest form; None: OPENAI_BASE_URL if set, else OpenAI's own."""
    return checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)


def key_for(server: str, *, variable: str | None = None, value: str | None = None) -> ApiKey:
    """Return the key for a server.

    OPENAI_API_KEY goes only to OpenAI's own servers and to the one that OPENAI_BASE_URL names. Any other server gets a
    key only from the variable named for it, or none.

    Args:
        server: Its checked address.
        variable: Environment variable that holds the key.
        value: The key itself, before any variable.

    Raises:
        InvalidArgumentError: The named variable is not set.
        EndpointError: OpenAI needs a key and there is none, or it cannot be sent.
    """
    key = (value or "").strip()
    if not key and variable is not None:
        key = os.environ.get(variable, "").strip()
        if not key:
            raise InvalidArgumentError(
                f"the environment variable {variable}, which should hold the key for {server}, is not set"
            )
    if not key and (is_openai(server) or _is_environment_server(server)):
        key = os.environ.get(_VARIABLE, "").strip()
    if key and not _HEADER_SAFE.fullmatch(key):
        raise EndpointError(f"the key for {server} holds blanks or characters beyond ASCII, which no header can carry")
    if not key and is_openai(server):
        raise EndpointError(f"no key for {server}: set {_VARIABLE}, or name the variable that holds it")
    return ApiKey(key)


def _is_environment_server(server: str) -> bool:
    named = os.environ.get("OPENAI_BASE_URL")
    try:
        return bool(named) and checked_url(named or "") == server
    except InvalidArgumentError:
        return False
