"""What bodies of each endpoint say."""

from __future__ import annotations

import json

import pytest

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.dialects import DIALECTS

BY_PATH = {dialect.path: dialect for dialect in DIALECTS}
CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    BY_PATH[f"/v1/{name}"] for name in ("chat/completions", "completions", "responses", "messages")
)
HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "result"},
]


@pytest.mark.parametrize(
    ("dialect", "fields", "text"),
    [
        (CHAT, {"messages": [*HISTORY, {"role": "user", "content": "Second?"}]}, "Second?"),
        (CHAT, {"messages": HISTORY}, "First?"),
        (
            CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "image_url", "image_url": {"url": "data:"}},
                        ],
                    }
                ]
            },
            "a",
        ),
        (COMPLETIONS, {"prompt": "Say"}, "Say"),
        (COMPLETIONS, {"prompt": ["Say", "Sing"]}, "Say\nSing"),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, ""),
        (COMPLETIONS, {"prompt": [[1, 2], [3]]}, ""),
        (RESPONSES, {"input": "Say", "instructions": "Be brief."}, "Say"),
        (
            RESPONSES,
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "Say"}]},
                    {"type": "function_call_output", "output": "x"},
                ]
            },
            "Say",
        ),
        (RESPONSES, {"input": []}, ""),
        (
            MESSAGES,
            {
                "system": "Be brief.",
                "messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}],
            },
            "",
        ),
        (MESSAGES, {"messages": [{"role": "user", "content": "Say"}]}, "Say"),
    ],
)
def test_the_text_is_the_users_newest(dialect, fields, text):
    assert dialect.text(fields) == text


@pytest.mark.parametrize(
    ("dialect", "fields", "tools", "image", "audio", "turns"),
    [
        (CHAT, {"messages": HISTORY}, True, False, False, 4),
        (CHAT, {"messages": HISTORY[:2], "tools": [{"type": "function"}]}, True, False, False, 2),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, False, True, False, 1),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, False, False, True, 1),
        (
            RESPONSES,
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image"}]},
                    {"type": "function_call", "arguments": "{}"},
                ]
            },
            True,
            True,
            False,
            2,
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "tool_result"}]}]},
            True,
            True,
            False,
            1,
        ),
    ],
)
def test_what_is_not_text_is_seen(dialect, fields, tools, image, audio, turns):
    traits = dialect.traits(fields, dialect.text(fields))
    assert (traits.has_tools, traits.has_image, traits.has_audio, traits.turns) == (tools, image, audio, turns)


def test_pictures_do_not_count_as_text():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]}
    assert CHAT.traits(fields, "What is it?").history_chars == 0


def test_a_conversation_is_named_by_its_beginning_and_its_client():
    first = {"messages": HISTORY[:2]}
    later = {"messages": [*HISTORY[:2], {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "More?"}]}
    other = {"messages": [HISTORY[0], {"role": "user", "content": "Else?"}]}
    name, is_continued = CHAT.conversation(first, "web", None)
    assert not is_continued
    assert CHAT.conversation(later, "web", None) == (name, True)
    assert CHAT.conversation(later, "app", None)[0] != name
    assert CHAT.conversation(other, "web", None)[0] != name
    assert CHAT.conversation(first, "web", "mine") == CHAT.conversation(other, "web", "mine")
    assert CHAT.conversation(first, "web", "mine")[0] != CHAT.conversation(first, "app", "mine")[0]


def test_an_answer_that_its_upstream_keeps_is_named():
    assert RESPONSES.previous_response({"previous_response_id": "resp_1"}) == "resp_1"
    assert RESPONSES.previous_response({"previous_response_id": None}) == ""
    assert CHAT.previous_response({"previous_response_id": "resp_1"}) == ""


@pytest.mark.parametrize(
    ("dialect", "fields", "message"),
    [
        (CHAT, {}, "messages must be a list of chat messages, found NoneType"),
        (CHAT, {"messages": "hello"}, "messages must be a list of chat messages, found str"),
        (CHAT, {"messages": []}, "messages is empty"),
        (CHAT, {"messages": [3]}, "message 0 must be an object"),
        (CHAT, {"messages": [3, {"role": "user", "content": "x"}]}, "message 0 must be an object, found int"),
        (RESPONSES, {"input": [{"role": "user", "content": "x"}, None]}, "item 1 must be an object, found NoneType"),
        (CHAT, {"messages": [{"role": "user", "content": 3}]}, "the content of message 0"),
        (COMPLETIONS, {"prompt": 3}, "prompt must be a string or a list, found int"),
        (RESPONSES, {"input": 3}, "input must be a string or a list of items, found int"),
    ],
)
def test_what_is_no_chat_is_refused_by_name(dialect, fields, message):
    with pytest.raises(InvalidArgumentError) as error:
        dialect.traits(fields, dialect.text(fields))
    assert message in str(error.value)


def test_errors_have_the_form_that_clients_of_each_api_read():
    openai = json.loads(CHAT.error(404, "no such model", "model_not_found"))
    assert openai["error"]["message"] == "no such model"
    assert openai["error"]["code"] == "model_not_found"
    anthropic = json.loads(MESSAGES.error(404, "no such model", "model_not_found"))
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "not_found_error")
    assert json.loads(MESSAGES.error(599, "?", "x"))["error"]["type"] == "api_error"
