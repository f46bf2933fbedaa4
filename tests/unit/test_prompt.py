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
    assert text_of([{"role": "user", "content": []}]) == ""
    assert text_of([{"role": "user", "content": None}]) == ""


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        [{"role": "system", "content": "x"}],
        ["hello"],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"type": "text", "text": 1}]}],
        {"role": "user"},
    ],
)
def test_what_is_no_chat_is_refused(messages: object) -> None:
    with pytest.raises(InvalidArgumentError):
        text_of(messages)  # type: ignore[arg-type]
