"""Takes from a chat the text that a router reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from routellm_fast.errors import InvalidArgumentError

Rule = Literal["last_user", "last"]


def text_of(messages: Sequence[Mapping[str, Any]], *, rule: Rule = "last_user") -> str:
    """Return the text of the message in a chat that a router should read: by default the user's last one.

    Args:
        messages: OpenAI chat messages; `content` is a str, a list of parts, or None (tool calls).
        rule: "last_user" takes the last message with the role "user", so that the output of a tool is never routed on.
            "last" takes the last message whatever its role, as RouteLLM's Controller does.

    Returns:
        The text, which may be empty. Text parts are joined by line feeds; images and audio are left out.

    Raises:
        InvalidArgumentError: No message has the role that the rule asks for, or a message is not a chat message.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise InvalidArgumentError(f"messages must be a list of chat messages, not {type(messages).__name__}")
    for index in range(len(messages) - 1, -1, -1):
        entry = messages[index]
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(
                f"message {index} must be an object with role and content, not {type(entry).__name__}"
            )
        if rule == "last" or entry.get("role") == "user":
            return _text_of_content(entry.get("content"), index)
    raise InvalidArgumentError(
        f"none of the {len(messages)} messages has the role 'user': there is nothing to route on"
    )


def _text_of_content(content: Any, index: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part for part in content if isinstance(part, Mapping) and part.get("type") in ("text", "input_text")]
        texts = [part.get("text") for part in parts]
        if all(isinstance(text, str) for text in texts) and all(isinstance(part, Mapping) for part in content):
            return "\n".join(str(text) for text in texts)
    raise InvalidArgumentError(
        f"the content of message {index} must be a str or a list of content parts, found {type(content).__name__}"
    )
