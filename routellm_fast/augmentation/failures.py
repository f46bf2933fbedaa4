"""Attempts without an answer: whether to try again, whether to go on at all, and whether they may be billed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from routellm_fast.endpoints import asked_pause_s, is_redirect, refusal_reason, refused, silent, unreachable

# No other call can succeed either: no key, no money, no permission, no such model.
_HOPELESS: Final = frozenset({401, 402, 403, 404})
_RETRIED: Final = frozenset({408, 409, 425, 429})
_OUT_OF_QUOTA: Final = "insufficient_quota"
_LONGEST_ASKED_PAUSE_S: Final = 600.0
# By name: which httpx they come from depends on the openai package.
_NEVER_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without an answer.

    Attributes:
        reason: What happened, and what to do.
        is_retried: Whether a further attempt may succeed.
        is_hopeless: Whether no other call can succeed either.
        may_be_billed: Whether the request was sent and not refused.
        asked_pause_s: Seconds that the server asks to wait; None where it does not ask.
        status: HTTP status of the refusal; None where there was no answer.
        said: What the server wrote about the refusal.
    """

    reason: str
    is_retried: bool = False
    is_hopeless: bool = False
    may_be_billed: bool = False
    asked_pause_s: float | None = None
    status: int | None = None
    said: str = ""


def refusal(error: Any, url: str, model: str, now_s: float, shown: Callable[[str], str]) -> Failure:
    """Return what an answer of status 400 and above means.

    Args:
        error: openai.APIStatusError.
        url: The address that was asked.
        model: The server's name of the model.
        now_s: Seconds since 1970.
        shown: Returns what may be shown of a text that the server wrote.
    """
    status = int(error.status_code)
    said = refusal_reason(error)
    reason = f"{url} {refused(status, f'for model {model!r}', shown(said))}"
    if status in _HOPELESS or is_redirect(status) or _OUT_OF_QUOTA in (error.code, error.type):
        return Failure(reason, is_hopeless=True)
    asked_s = asked_pause_s(error.response.headers, now_s)
    if asked_s is not None and asked_s > _LONGEST_ASKED_PAUSE_S:
        return Failure(f"{reason} It asks to wait {asked_s:,.0f} s.", is_hopeless=True)
    is_retried = status in _RETRIED or status >= 500
    return Failure(reason, is_retried=is_retried, asked_pause_s=asked_s, status=status, said=said)


def broken_connection(error: Exception, url: str, timeout_s: float | None, shown: Callable[[str], str]) -> Failure:
    """Return what a time-out or a connection that broke means.

    Args:
        error: openai.APITimeoutError or openai.APIConnectionError.
        url: The address that was asked.
        timeout_s: The time that ran out, in seconds; None where the connection broke.
        shown: Returns what may be shown of the error's text.
    """
    cause = error.__cause__ or error
    what = unreachable(cause, shown(str(cause))) if timeout_s is None else silent(timeout_s)
    return Failure(f"{url} {what}", is_retried=True, may_be_billed=type(cause).__name__ not in _NEVER_SENT)
