"""The clients that people have, as they are: the packages openai and anthropic, against the gateway over sockets."""

from __future__ import annotations

import asyncio

import anthropic
import openai
import pytest

from tests.support.gateway import EASY, HARD, running_gateway, settings_text


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    text = (
        settings_text(upstream.url)
        .replace(
            "models:",
            f"""\
  three: {{base_url: {upstream.url}, dialect: anthropic}}
models:
  claude-big: {{upstream: three}}
  claude-small: {{upstream: three}}""",
        )
        .replace("routers:", "routers:\n  claude: {strong: claude-big, weak: claude-small}")
    )
    with running_gateway(text, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def test_a_chat(client):
    answer = client.chat.completions.create(model="router-mf", messages=[{"role": "user", "content": HARD}])
    assert (answer.model, answer.choices[0].message.content) == ("model", "word0 word1 word2 word3 word4 ")
    assert answer.usage.total_tokens == 25
    raw = client.chat.completions.with_raw_response.create(
        model="router-mf-0.5", messages=[{"role": "user", "content": EASY}]
    )
    assert (raw.headers["x-routellm-model"], raw.headers["x-routellm-threshold"]) == ("small", "0.5")


def test_a_stream_of_a_tool_call(client):
    stream = client.chat.completions.create(
        model="router-mf",
        messages=[{"role": "user", "content": f"{HARD} @form=tools"}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    call = chunks[0].choices[0].delta.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Zürich"}')
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage.completion_tokens == 5


def test_completions_responses_embeddings_and_models(client):
    assert client.completions.create(model="router-mf", prompt=EASY).choices[0].text.startswith("word0")
    assert client.responses.create(model="router-mf", input=EASY).output_text.startswith("word0")
    stream = client.responses.create(model="router-mf", input=EASY, stream=True)
    texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == "word0 word1 word2 word3 word4 "
    assert client.embeddings.create(model="small", input="x", encoding_format="float").data[0].embedding == [0.25, 0.5]
    assert {model.id for model in client.models.list()} == {
        "router-mf", "router-claude", "big", "small", "claude-big", "claude-small",
    }  # fmt: skip
    assert client.models.retrieve("router-mf").owned_by == "routellm-fast"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_an_answer_goes_on_at_the_model_that_keeps_it(client, upstream):
    first = client.responses.create(model="router-mf", input=HARD)
    assert first.id == "resp_model"
    kept = client.responses.create(model="router-mf", input=f"{HARD} @words=2")
    upstream.requests.clear()
    client.responses.create(model="router-mf", input=EASY, previous_response_id=kept.id)
    assert upstream.bodies()[0]["model"] == "big-there"


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("gpt-9", openai.NotFoundError, "gpt-9"),
        ("router-nobody", openai.BadRequestError, "Invalid router nobody"),
        ("router-mf-7", openai.BadRequestError, "Threshold must be a float between 0.0 and 1.0"),
    ],
)
def test_errors_are_those_of_the_package(client, model, kind, message):
    with pytest.raises(kind, match=message):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])


def test_a_stream_that_breaks_off_is_an_error(client):
    stream = client.chat.completions.create(
        model="router-mf", messages=[{"role": "user", "content": f"{EASY} @cut=3"}], stream=True
    )
    with pytest.raises(openai.APIError):
        list(stream)


def test_the_asynchronous_client(gateway):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as made:

            async def one(number):
                stream = await made.chat.completions.create(
                    model="router-mf", messages=[{"role": "user", "content": f"{EASY} {number}"}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

            return await asyncio.gather(*(one(number) for number in range(40)))

    assert set(asyncio.run(ask_all())) == {"word0 word1 word2 word3 word4 "}


def test_anthropics_client(gateway, upstream):
    with anthropic.Anthropic(base_url=gateway.url, api_key="clients-own", max_retries=0) as made:
        upstream.requests.clear()
        answer = made.messages.create(
            model="router-claude", max_tokens=100, system="Be brief.", messages=[{"role": "user", "content": HARD}]
        )
        assert answer.content[0].text == "word0 word1 word2 word3 word4 "
        assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (6, 30)
        assert upstream.bodies()[0]["model"] == "claude-big"
        headers = upstream.requests[0].headers
        assert headers["anthropic-version"] > "2023"
        assert "clients-own" not in str(headers)
        with made.messages.stream(
            model="router-claude", max_tokens=100, messages=[{"role": "user", "content": EASY}]
        ) as stream:
            assert "".join(stream.text_stream) == "word0 word1 word2 word3 word4 "
            assert stream.get_final_message().usage.output_tokens == 5
        with pytest.raises(anthropic.BadRequestError, match="behind openai's API"):
            made.messages.create(model="router-mf", max_tokens=9, messages=[{"role": "user", "content": EASY}])
        with pytest.raises(anthropic.NotFoundError, match="gpt-9"):
            made.messages.create(model="gpt-9", max_tokens=9, messages=[{"role": "user", "content": EASY}])
