"""What the bodies of each endpoint say: the text that is routed on, what else is in them, and the tokens of answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.exchange import Traits, Usage
from routellm_fast.prompt import text_of

_IMAGE_PARTS: Final = frozenset({"image", "image_url", "input_image"})
_AUDIO_PARTS: Final = frozenset({"audio", "input_audio"})
_TOOL_PARTS: Final = frozenset({
    "tool_use", "tool_result", "server_tool_use", "function_call", "function_call_output", "custom_tool_call",
    "custom_tool_call_output", "mcp_call", "computer_call", "computer_call_output",
})  # fmt: skip
# A token of English text has about four characters.
_CHARS_PER_TOKEN: Final = 4.0


class Dialect:
    """One endpoint's way of asking and answering. Stateless; this class reads OpenAI's chat completions.

    Attributes:
        path: The endpoint's path.
        upstream_path: The path after an upstream's base URL.
        api: Whose API it is: "openai" or "anthropic".
        is_routed: Whether requests may name a router.
    """

    path = "/v1/chat/completions"
    upstream_path = "/chat/completions"
    api = "openai"
    is_routed = True

    def messages(self, fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the chat in a request. Raises InvalidArgumentError where it is none."""
        messages = fields.get("messages")
        if not isinstance(messages, list):
            raise InvalidArgumentError(f"messages must be a list of chat messages, found {type(messages).__name__}")
        return _objects(messages, "message")

    def text(self, fields: Mapping[str, Any]) -> str:
        """Return the text that is routed on, "" for none. Raises InvalidArgumentError for a malformed request."""
        return text_of(self.messages(fields))

    def system(self, fields: Mapping[str, Any]) -> Any:
        """Return what a request says outside of its messages."""
        del fields
        return ""

    def traits(self, fields: Mapping[str, Any], text: str) -> Traits:
        """Return what a request holds besides the text that is routed on."""
        messages = self.messages(fields)
        has_tools, has_image, has_audio = bool(fields.get("tools") or fields.get("functions")), False, False
        chars = _length(self.system(fields))
        for message in messages:
            content = message.get("content")
            if message.get("tool_calls") or message.get("role") == "tool" or message.get("type") in _TOOL_PARTS:
                has_tools = True
            if isinstance(content, str):
                chars += len(content)
            elif isinstance(content, list):
                for part in content:
                    kind = part.get("type") if isinstance(part, dict) else None
                    has_image |= kind in _IMAGE_PARTS
                    has_audio |= kind in _AUDIO_PARTS
                    has_tools |= kind in _TOOL_PARTS
                    chars += _length(part)
            for other in ("output", "arguments"):  # of the responses API's tool calls
                chars += _length(message.get(other))
        return Traits(has_tools, has_image, has_audio, len(messages), max(0, chars - len(text)))

    def conversation(self, fields: Mapping[str, Any], client: str, header: str | None) -> tuple[str, bool]:
        """Return a digest that names the conversation, and whether it had an answer before.

        Args:
            fields: The request.
            client: The client's name: conversations of different clients are different.
            header: The client's own name of the conversation; None: what its beginning says names it.
        """
        messages = self.messages(fields)
        is_continued = any(message.get("role") == "assistant" for message in messages)
        if header is not None:
            return _digest([client, header]), is_continued
        beginning = [self.system(fields)]
        for message in messages:
            beginning.append([message.get("role"), message.get("content")])
            if message.get("role") == "user":
                break
        return _digest([client, self.path, beginning]), is_continued

    def previous_response(self, fields: Mapping[str, Any]) -> str:
        """Return the id of the answer that a request goes on from and that its upstream keeps; "" for none."""
        del fields
        return ""

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Return the tokens that an answer, or an event of one, tells of; None where it tells of none."""
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return None
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        return _usage(
            usage.get("prompt_tokens", usage.get("input_tokens")),
            usage.get("completion_tokens", usage.get("output_tokens", 0)),
            cached,
        )

    def joined_usage(self, earlier: Usage | None, later: Usage) -> Usage:
        """Return what two events of one answer tell together."""
        del earlier
        return later

    def answer_text(self, answer: Mapping[str, Any]) -> str:
        """Return the text in an answer, or in an event of one."""
        texts = []
        for choice in _list(answer.get("choices"))[:1]:
            message = choice.get("message") or choice.get("delta") or choice
            content = message.get("content", message.get("text")) if isinstance(message, dict) else None
            if isinstance(content, str):
                texts.append(content)
        return "".join(texts)

    def response_id(self, answer: Mapping[str, Any]) -> str:
        """Return the id under which an upstream keeps an answer; "" where it keeps none."""
        del answer
        return ""

    def error(self, status: int, message: str, kind: str) -> bytes:
        """Return the body of an error in the form that the endpoint's clients read."""
        del status
        return _json({"error": {"message": message, "type": kind, "param": None, "code": kind}})


class Completions(Dialect):
    """OpenAI's older completions: a prompt, or several."""

    path = "/v1/completions"
    upstream_path = "/completions"

    def messages(self, fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the prompts as one message of the user; token ids are no text."""
        prompt = fields.get("prompt", "")
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(prompts, list):
            raise InvalidArgumentError(f"prompt must be a string or a list, found {type(prompt).__name__}")
        texts = [entry for entry in prompts if isinstance(entry, str)]
        return [{"role": "user", "content": "\n".join(texts)}]


class Responses(Dialect):
    """OpenAI's responses: `input` is a text or a list of items."""

    path = "/v1/responses"
    upstream_path = "/responses"

    def messages(self, fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the input as a chat."""
        found = fields.get("input", "")
        if isinstance(found, str):
            return [{"role": "user", "content": found}]
        if not isinstance(found, list):
            raise InvalidArgumentError(f"input must be a string or a list of items, found {type(found).__name__}")
        return _objects(found, "item") or [{"role": "user", "content": ""}]

    def system(self, fields: Mapping[str, Any]) -> Any:
        """Return the instructions."""
        return fields.get("instructions") or ""

    def previous_response(self, fields: Mapping[str, Any]) -> str:
        """Return `previous_response_id`."""
        found = fields.get("previous_response_id")
        return found if isinstance(found, str) else ""

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Return the tokens of an answer, or of the event that ends it."""
        inner = answer.get("response")
        return super().usage(inner if isinstance(inner, dict) else answer)

    def answer_text(self, answer: Mapping[str, Any]) -> str:
        """Return the text in an answer, or in an event of one."""
        if answer.get("type") == "response.output_text.delta":
            return _text(answer.get("delta"))
        parts = [part for item in _list(answer.get("output")) for part in _list(item.get("content"))]
        return "".join(_text(part.get("text")) for part in parts if part.get("type") == "output_text")

    def response_id(self, answer: Mapping[str, Any]) -> str:
        """Return the answer's id."""
        inner = answer.get("response")
        found = (inner if isinstance(inner, dict) else answer).get("id")
        return found if isinstance(found, str) else ""


class Messages(Dialect):
    """Anthropic's messages."""

    path = "/v1/messages"
    upstream_path = "/messages"
    api = "anthropic"

    def system(self, fields: Mapping[str, Any]) -> Any:
        """Return the system prompt, a text or a list of blocks."""
        return fields.get("system") or ""

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Return the tokens of an answer, or of an event of one."""
        inner = answer.get("message")
        usage = (inner if isinstance(inner, dict) else answer).get("usage")
        if not isinstance(usage, dict):
            return None
        # Anthropic counts what it took from its prompt cache, and what it put there, beside the input, not within it.
        cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
        fresh = usage.get("input_tokens") or 0
        if not all(isinstance(count, int) for count in (cached, written, fresh)):
            return None
        return _usage(fresh + cached + written, usage.get("output_tokens"), cached)

    def joined_usage(self, earlier: Usage | None, later: Usage) -> Usage:
        """Return what the first event tells of the request and the last one of the answer."""
        if earlier is None or later.input_tokens:
            return later
        return Usage(earlier.input_tokens, later.output_tokens, earlier.cached_tokens)

    def answer_text(self, answer: Mapping[str, Any]) -> str:
        """Return the text in an answer, or in an event of one."""
        if answer.get("type") == "content_block_delta":
            delta = answer.get("delta")
            return _text(delta.get("text")) if isinstance(delta, dict) else ""
        return "".join(_text(part.get("text")) for part in _list(answer.get("content")) if part.get("type") == "text")

    def error(self, status: int, message: str, kind: str) -> bytes:
        """Return the body of an error in Anthropic's form."""
        return _json({"type": "error", "error": {"type": _ANTHROPIC_ERRORS.get(status, "api_error"), "message": message,
                                                  "code": kind}})  # fmt: skip


class Embeddings(Dialect):
    """OpenAI's embeddings, which are not routed: vectors of two models have nothing in common."""

    path = "/v1/embeddings"
    upstream_path = "/embeddings"
    is_routed = False

    def messages(self, fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return no message: nothing is routed on."""
        del fields
        return ({"role": "user", "content": ""},)


DIALECTS: Final[tuple[Dialect, ...]] = (Dialect(), Completions(), Responses(), Messages(), Embeddings())

_ANTHROPIC_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


def estimated_usage(request_chars: int, answer_chars: int) -> Usage:
    """Return a guess at the tokens of a request and an answer of so many characters."""
    return Usage(round(request_chars / _CHARS_PER_TOKEN), round(answer_chars / _CHARS_PER_TOKEN), 0, is_estimated=True)


def _usage(input_tokens: Any, output_tokens: Any, cached_tokens: Any) -> Usage | None:
    counts = [0 if count is None else count for count in (input_tokens, output_tokens, cached_tokens)]
    if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 1 << 40 for count in counts):
        return None
    return Usage(counts[0], counts[1], counts[2])


def _length(value: Any) -> int:
    """Return the number of characters of text in a content part; data of images and audio are no text."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_length(value.get(key)) for key in ("text", "input", "content", "thinking"))
    if isinstance(value, list):
        return sum(map(_length, value))
    return 0


def _objects(entries: list[Any], what: str) -> list[Mapping[str, Any]]:
    """Return the entries of a chat after checking that each is an object."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidArgumentError(f"{what} {index} must be an object, found {type(entry).__name__}")
    return entries


def _list(value: Any) -> list[Any]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
