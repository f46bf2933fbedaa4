"""Only the model of a request changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.request_body import read_body

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), _JSON, max_size=5), st.text(), st.text(), st.booleans(), st.sampled_from([None, 1, "\t"])
)
def test_a_body_keeps_every_byte_but_those_of_the_model(fields, model, other, is_ascii, indent):
    fields = {**fields, "model": model, "last": "ü"}
    data = json.dumps(fields, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:  # a lone surrogate, which no UTF-8 has
        return
    body = read_body(data)
    changed = body.asking(other)
    begin, end = body.span
    assert body.model == model
    assert body.fields == json.loads(data)
    assert json.loads(data[begin:end]) == model
    assert changed[:begin] == data[:begin]
    assert changed[len(changed) - (len(data) - end) :] == data[end:]
    assert json.loads(changed) == {**json.loads(data), "model": other}


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":, \\u0123model\n', max_size=60).map(str.encode))
def test_a_body_is_read_as_json_reads_it_or_refused(data):
    twins = []

    def note_twins(pairs):
        twins.append(len({key for key, _ in pairs}) < len(pairs))  # the outermost object is the last one
        return dict(pairs)

    try:
        expected = json.loads(data.decode("utf-8"), object_pairs_hook=note_twins)
    except (ValueError, RecursionError):
        expected = None
    is_good = isinstance(expected, dict) and not twins[-1] and isinstance(expected.get("model", ""), str)
    if is_good:
        assert read_body(data).fields == expected
    else:
        with pytest.raises(InvalidArgumentError):
            read_body(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected an object at character 0"),
        (b"[1]", "expected an object at character 0"),
        (b'{"a":}', "a value is missing at character 5"),
        (b'{"a" 1}', "expected a colon at character 5"),
        (b'{"a":1,}', 'expected a key in "quotes" at character 7'),
        (b"{} x", "expected nothing after the object at character 3"),
        (b'{"model":"a","model":"b"}', "the key 'model' twice"),
        (b'{"x":1,"x":2}', "the key 'x' twice"),
        (b'{"model":1}', "model must be a string, found int"),
        (b'{"a":"\xff"}', "no UTF-8 text: byte 6 is 0xff"),
        (b"\xef\xbb\xbf{}", "expected an object at character 0"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"1" * 10_000 + b"}", "that can be read"),
    ],
)
def test_a_broken_body_is_refused_by_name(data, message):
    with pytest.raises(InvalidArgumentError) as error:
        read_body(data)
    assert message in str(error.value)


def test_a_key_written_with_escapes_is_found():
    body = read_body(b'{"mod\\u0065l" :\n"a"}')
    assert body.asking('b"\xe9') == b'{"mod\\u0065l" :\n"b\\"\\u00e9"}'
