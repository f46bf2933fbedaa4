"""How one chat server wants to be asked, and what a refusal teaches about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from routellm_fast.augmentation.completion import Messages
from routellm_fast.augmentation.endpoint_settings import AUTO, NO_RESPONSE_FORMAT, EndpointSettings
from routellm_fast.endpoints import FORM_STATUSES, refuses_parameter

_OLD_LIMIT: Final = "max_tokens"
_NEW_LIMIT: Final = "max_completion_tokens"


@dataclass(frozen=True, slots=True)
class ChatManners:
    """How a server is asked for a chat completion. Immutable.

    Attributes:
        limit_name: The request's name of the most tokens of an answer.
        is_limit_open: Whether the other name may be tried.
        sends_temperature: Whether the request holds a temperature, where one is set.
        sends_format: Whether the request holds a `response_format`, where JSON is asked for.
        is_format_open: Whether it may be left out.
    """

    limit_name: str
    is_limit_open: bool
    sends_temperature: bool = True
    sends_format: bool = True
    is_format_open: bool = True

    @classmethod
    def of(cls, settings: EndpointSettings, *, is_openai: bool) -> ChatManners:
        """Return how a server is asked at first. OpenAI's newer models refuse the old name of the token limit."""
        is_open = settings.max_tokens_name == AUTO
        return cls(
            limit_name=(_NEW_LIMIT if is_openai else _OLD_LIMIT) if is_open else settings.max_tokens_name,
            is_limit_open=is_open,
            sends_format=settings.response_format != NO_RESPONSE_FORMAT,
            is_format_open=settings.response_format == AUTO,
        )

    def body(self, settings: EndpointSettings, messages: Messages, *, as_json: bool) -> dict[str, Any]:
        """Return the body of a request."""
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": list(messages),
            self.limit_name: settings.max_tokens,
        }
        if settings.temperature is not None and self.sends_temperature:
            body["temperature"] = settings.temperature
        if as_json and self.sends_format:
            body["response_format"] = {"type": "json_object"}
        return body

    def after_refusal(self, status: int | None, reason: str, sent: Mapping[str, Any]) -> ChatManners | None:
        """Return how to ask again after a refusal; None where it is about something else.

        Each refusal leaves less open, so that asking again ends.

        Args:
            status: The answer's HTTP status; None for no answer.
            reason: What the server wrote.
            sent: The body of the refused request.
        """
        if status not in FORM_STATUSES:
            return None
        changed = self
        other = _OLD_LIMIT if self.limit_name == _NEW_LIMIT else _NEW_LIMIT
        names_other_alone = other in reason and self.limit_name not in reason.replace(other, "")
        if self.is_limit_open and (refuses_parameter(reason, self.limit_name) or names_other_alone):
            changed = replace(changed, limit_name=other, is_limit_open=False)
        if "temperature" in sent and refuses_parameter(reason, "temperature"):
            changed = replace(changed, sends_temperature=False)
        if (
            "response_format" in sent
            and self.is_format_open
            and any(refuses_parameter(reason, name) for name in ("response_format", "json_object", "json mode"))
        ):
            changed = replace(changed, sends_format=False, is_format_open=False)
        return None if changed is self else changed

    def with_learned(self, other: ChatManners) -> ChatManners:
        """Return these manners with all that is settled in the other ones, which the server has answered to."""
        limit = other if self.is_limit_open else self
        form = other if self.is_format_open else self
        return ChatManners(
            limit.limit_name,
            limit.is_limit_open,
            self.sends_temperature and other.sends_temperature,
            form.sends_format,
            form.is_format_open,
        )

    def departures(self, settings: EndpointSettings) -> list[str]:
        """Return in words what the server does otherwise than the settings ask; nothing where it does what they ask."""
        found = []
        if settings.temperature is not None and not self.sends_temperature:
            found.append(f"takes no temperature of {settings.temperature:g}: it answers at its own")
        if settings.response_format == AUTO and not self.sends_format:
            found.append("takes no response_format: only its instructions ask for JSON")
        return [f"{settings.model} {what}" for what in found]
