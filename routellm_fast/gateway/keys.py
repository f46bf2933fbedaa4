"""Keys of the gateway's own clients. Their digests stand in the settings; the keys themselves are kept nowhere."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from routellm_fast.gateway.settings import ClientSettings

_PREFIX: Final = "rlf-"


def new_key() -> tuple[str, str]:
    """Return a new key of 256 random bits, and its digest for `key_sha256`."""
    key = f"{_PREFIX}{secrets.token_urlsafe(32)}"
    return key, digest_of(key.encode("ascii"))


def digest_of(key: bytes) -> str:
    """Return a key's SHA-256, 64 hexadecimal digits. A key of 256 random bits needs no slower function."""
    return hashlib.sha256(key).hexdigest()


def client_of(key: bytes, clients: Sequence[ClientSettings]) -> str | None:
    """Return the name of the client that has a key, None for no client. Takes as long whichever it is."""
    digest = digest_of(key)
    found: str | None = None
    for client in clients:
        if hmac.compare_digest(digest, client.key_sha256) and found is None:
            found = client.name
    return found
