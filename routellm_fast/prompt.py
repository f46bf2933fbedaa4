"""Takes from a chat the text that a router reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from routellm_fast.decision import has_text
from routellm_fast.errors import InvalidArgumentError

Rule = Literal["last_user", "last"]
_RULES: Final = ("last_user", "last")


def text_of(messages: Sequence[Mapping[str, Any]], *, rule: Rule = "last_user") -> str:
    """Return the text of the message in a chat that a router should read: by default the user's newest with text.

    Args:
        messages: Chat messages as OpenAI or Anthropic write them, at least one; `content` is a str, a list of parts, or
            None (tool calls).
        rule: "last_user" takes the newest message of the role "user" that has text, so that neither the output of a
            tool nor a picture is routed on. "last" takes the last message whatever its role, as RouteLLM's Controller
            does.

    Returns:
        The text, which is "" where no such message has any: `Router.route` then decides by its `no_text`. Text parts
        are joined by line feeds; images, audio and the results of tools are left out.

    Raises:
        InvalidArgumentError: There are no messages, or one is not a chat message.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise InvalidArgumentError(f"messages must be a list of chat messages, not {type(messages).__name__}")
    if rule not in _RULES:
        raise InvalidArgumentError(f"rule is one of {', '.join(_RULES)}, found {rule!r}")
    if not messages:
        raise InvalidArgumentError("messages is empty: a chat has at least one message")
    for index in range(len(messages) - 1, -1, -1):
        entry = messages[index]
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(
                f"message {index} must be an object with role and content, not {type(entry).__name__}"
            )
        if rule == "last" or entry.get("role") == "user":
            text = _text_of_content(entry.get("content"), index)
            if rule == "last" or has_text(text):
                return text
    return ""


def _text_of_content(content: Any, index: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise InvalidArgumentError(
            f"the content of message {index} must be a str or a list of content parts, found {type(content).__name__}"
        )
    texts: list[str] = []
    for place, part in enumerate(content):
        if isinstance(part, str):  # some clients send bare strings
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            raise InvalidArgumentError(
                f"part {place} of message {index} must be a content part, found {type(part).__name__}"
            )
        if part.get("type") in ("text", "input_text"):
            text = part.get("text")
            if not isinstance(text, str):
                raise InvalidArgumentError(
                    f"part {place} of message {index} is text, but its `text` is {type(text).__name__}, not str"
                )
            texts.append(text)
    return "\n".join(texts)
