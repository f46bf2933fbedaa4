"""Where an embeddings service lives."""

from __future__ import annotations

from urllib.parse import urlsplit

from routellm_fast.errors import InvalidArgumentError

OPENAI_URL = "https://api.openai.com/v1"


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
