from __future__ import annotations

import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.prompt import text_of

PARTS = [
    {"type": "text", "text": "look"},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "text", "text": "here"},
]


def test_the_last_user_message_is_the_prompt() -> None:
    chat = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42"},
    ]
    assert text_of(chat) == "two"
    assert text_of(chat, rule="last") == "42"


def test_text_parts_are_joined_and_images_left_out() -> None:
    assert text_of([{"role": "user", "content": PARTS}]) == "look\nhere"
    assert text_of([{"role": "user", "content": ["bare", {"type": "text", "text": "here"}]}]) == "bare\nhere"


TOOL_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}


@pytest.mark.parametrize(
    "last",
    [
        TOOL_RESULT,
        {"role": "user", "content": None},
        {"role": "user", "content": []},
        {"role": "user", "content": " \n"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user"},
    ],
)
def test_the_newest_user_message_with_text_is_the_prompt(last: dict[str, object]) -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "bash", "input": {}}]}
    chat = [{"role": "user", "content": "Prove it."}, call, last]
    assert text_of(chat) == "Prove it."
    assert text_of([last]) == ""  # no text anywhere: the router decides by its rule for that
    assert text_of([call, last]) == ""


def test_a_chat_without_the_user_has_no_text() -> None:
    assert text_of([{"role": "system", "content": "x"}]) == ""


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "messages is empty"),
        ("hello", "a list of chat messages, not str"),
        (["hello"], "message 0 must be an object"),
        ([{"role": "user", "content": 3}], "content of message 0 must be a str or a list of content parts, found int"),
        ([{"role": "user", "content": b"x"}], "found bytes"),
        ([{"role": "user", "content": ["x", 1]}], "part 1 of message 0 must be a content part, found int"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "its `text` is int, not str"),
        ({"role": "user"}, "not dict"),
    ],
)
def test_what_is_no_chat_is_refused(messages: object, what: str) -> None:
    with pytest.raises(InvalidArgumentError, match=what):
        text_of(messages)  # type: ignore[arg-type]


def test_another_rule_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="rule is one of last_user, last, found 'first'"):
        text_of([{"role": "user", "content": "hi"}], rule="first")  # type: ignore[arg-type]
