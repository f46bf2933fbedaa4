"""What an answer says of itself is read while it passes, however it is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.gateway.answers import AnswerReader
from routellm_fast.gateway.dialects import DIALECTS, Dialect
from routellm_fast.gateway.exchange import Usage

BY_PATH = {dialect.path: dialect for dialect in DIALECTS}


def event(value, name="", end="\n\n"):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value) if not isinstance(value, str) else value}{end}".encode()


CHAT = [
    event({"choices": [{"delta": {"role": "assistant", "content": ""}}], "usage": None}),
    b": a comment\n\n",
    event({"choices": [{"delta": {"content": "Gr\u00fc\u00dfe"}}]}),
    event({"choices": [{"delta": {"content": ", world"}}]}),
    event(
        {
            "choices": [],
            "usage": {"prompt_tokens": 11, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}},
        }
    ),
    event("[DONE]"),
]
RESPONSES = [
    event({"type": "response.created", "response": {"id": "resp_1", "usage": None}}, "response.created"),
    event({"type": "response.output_text.delta", "delta": "Hel"}, "response.output_text.delta"),
    event({"type": "response.output_text.delta", "delta": "lo"}, "response.output_text.delta"),
    event(
        {
            "type": "response.completed",
            "response": {
                "id": "resp_1",
                "usage": {"input_tokens": 7, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}},
            },
        },
        "response.completed",
    ),
]
MESSAGES = [
    event(
        {
            "type": "message_start",
            "message": {
                "usage": {
                    "input_tokens": 5,
                    "cache_read_input_tokens": 90,
                    "cache_creation_input_tokens": 5,
                    "output_tokens": 1,
                }
            },
        },
        "message_start",
    ),
    event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hel"}}, "content_block_delta"),
    event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "lo"}}, "content_block_delta"),
    event({"type": "message_delta", "usage": {"output_tokens": 12}}, "message_delta"),
]


@pytest.mark.parametrize(
    ("path", "events", "text", "usage", "response_id"),
    [
        ("/v1/chat/completions", CHAT, "Gr\u00fc\u00dfe, world", Usage(11, 4, 8), ""),
        ("/v1/responses", RESPONSES, "Hello", Usage(7, 2, 3), "resp_1"),
        ("/v1/messages", MESSAGES, "Hello", Usage(100, 12, 90), ""),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@given(data=st.data())
def test_a_stream_is_read_in_any_pieces(path, events, text, usage, response_id, line_end, data):
    stream = b"".join(events).replace(b"\n", line_end.encode())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = AnswerReader(BY_PATH[path], is_stream=True, wants_text=True)
    silent = AnswerReader(BY_PATH[path], is_stream=True, wants_text=False)
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[begin:end])
        silent.feed(stream[begin:end])
    assert reader.is_between_events
    reader.finish()
    silent.finish()
    assert (reader.text, reader.usage(lambda: 0), reader.response_id) == (text, usage, response_id)
    assert (silent.text, silent.usage(lambda: 0), silent.response_id) == ("", usage, response_id)


def test_an_answer_that_is_no_stream_is_read_at_its_end():
    answer = {"choices": [{"message": {"content": "Hello"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    reader = AnswerReader(Dialect(), is_stream=False, wants_text=True)
    data = json.dumps(answer).encode()
    reader.feed(data[:10])
    reader.feed(data[10:])
    reader.finish()
    assert (reader.text, reader.usage(lambda: 0)) == ("Hello", Usage(3, 2, 0))


def test_tokens_that_nobody_counted_are_guessed_from_lengths():
    reader = AnswerReader(Dialect(), is_stream=True, wants_text=False)
    for number in range(7):
        reader.feed(event({"choices": [{"delta": {"content": f"word{number}"}}]}))
    assert reader.usage(lambda: 400) == Usage(100, 7, 0, is_estimated=True)
    whole = AnswerReader(Dialect(), is_stream=False, wants_text=False)
    whole.feed(b"x" * 80)
    whole.finish()
    assert whole.usage(lambda: 40) == Usage(10, 20, 0, is_estimated=True)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": "3"},
        {"prompt_tokens": 1 << 60},
        {"prompt_tokens": True},
        "many",
        [],
        {"prompt_tokens": 1.5},
    ],
)
def test_a_count_that_is_none_is_not_taken(usage):
    reader = AnswerReader(Dialect(), is_stream=False, wants_text=False)
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.finish()
    assert reader.usage(lambda: 0).is_estimated


@given(st.binary(max_size=200), st.booleans())
def test_nonsense_passes(data, is_stream):
    reader = AnswerReader(BY_PATH["/v1/responses"], is_stream=is_stream, wants_text=True)
    reader.feed(data)
    reader.finish()
    assert reader.usage(lambda: 0).input_tokens >= 0


def test_an_endless_event_takes_no_memory():
    reader = AnswerReader(Dialect(), is_stream=True, wants_text=False)
    piece = b"x" * (1 << 20)
    for _ in range(40):
        reader.feed(piece)
    assert len(reader._rest) <= 16 << 20
    assert reader.usage(lambda: 0).is_estimated
