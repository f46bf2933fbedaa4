"""RouteLLM's calls, answered over real sockets. tests/controller/ asks RouteLLM itself the same."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.controller import Controller, ModelPair, RoutingError
from routellm_fast.routing import FunctionRouter, RouterSet
from tests.support.builders import mf_router
from tests.support.fake_chat import FakeChat

pytest.importorskip("openai")
HELLO = [{"role": "user", "content": "hello"}]
PROVE = [{"role": "user", "content": "prove the a"}]


@pytest.fixture(autouse=True)
def nothing_is_set(no_server_settings: None) -> None:
    pass


def by_word(prompt: str) -> float:
    return 0.9 if "prove" in prompt else 0.1


ROUTERS = {"word": FunctionRouter(by_word, threshold_for=lambda share: 1.0 - share)}


@pytest.fixture
def server() -> Iterator[FakeChat]:
    with FakeChat() as chat:
        yield chat


@pytest.fixture
def client(server: FakeChat) -> Iterator[Controller]:
    with Controller(ROUTERS, "strong", "weak", api_base=server.url, api_key="k", upstream="openai") as controller:
        yield controller


def test_a_chat_goes_to_the_model_that_the_router_chooses(client: Controller, server: FakeChat) -> None:
    first = client.chat.completions.create(model="router-word-0.5", messages=PROVE, temperature=0.2)
    second = client.completion(router="word", threshold=0.5, messages=HELLO)
    third = client.completion(model="router-word", messages=HELLO, router="ignored", threshold=7)
    assert [answer.choices[0].message.content for answer in (first, second, third)] == [
        "strong says hello",
        "weak says hello",
        "weak says hello",
    ]
    assert first.model == "strong"
    assert first.usage.total_tokens == 8
    assert server.bodies[0] == {"model": "strong", "messages": PROVE, "temperature": 0.2}
    assert {name: dict(models) for name, models in client.model_counts.items()} == {"word": {"strong": 1, "weak": 2}}
    assert client.model_counts["other"]["strong"] == 0


def test_the_same_holds_for_event_loops(client: Controller, server: FakeChat) -> None:
    async def run() -> list[str]:
        found = await asyncio.gather(
            client.chat.completions.acreate(model="router-word-0.5", messages=PROVE),
            client.acompletion(router="word", threshold=0.5, messages=HELLO),
        )
        await client.aclose()
        return [answer.choices[0].message.content for answer in found]

    assert asyncio.run(run()) == ["strong says hello", "weak says hello"]
    assert sorted(server.models) == ["strong", "weak"]
    assert client.model_counts == {"word": {"strong": 1, "weak": 1}}


def test_a_stream_comes_as_it_is_sent(client: Controller, server: FakeChat) -> None:
    server.goes_on.clear()
    words = []
    for chunk in client.completion(model="router-word-0.5", messages=PROVE, stream=True):
        words.append(chunk.choices[0].delta.content)
        server.goes_on.set()  # the rest is sent once the first has been read
    assert words == ["strong ", "says ", "hello", None]


def test_a_stream_comes_to_an_event_loop_as_it_is_sent(client: Controller, server: FakeChat) -> None:
    async def run() -> list[str | None]:
        server.goes_on.clear()
        words = []
        async for chunk in await client.acompletion(model="router-word-0.5", messages=HELLO, stream=True):
            words.append(chunk.choices[0].delta.content)
            server.goes_on.set()
        await client.aclose()
        return words

    assert asyncio.run(run()) == ["weak ", "says ", "hello", None]


RICH: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "prove it"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "hello"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "weather", "strict": True, "parameters": {"type": "object", "properties": {}}},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {}}},
    "logit_bias": {"50256": -100},
    "stop": ["\n"],
    "seed": 7,
    "n": 1,
    "reasoning_effort": "low",
}


@pytest.mark.parametrize("way", ["sync", "async"])
def test_tools_images_and_schemas_go_through_as_they_came(client: Controller, server: FakeChat, way: str) -> None:
    async def run() -> Any:
        answer = await client.acompletion(model="router-word-0.5", **RICH)
        await client.aclose()
        return answer

    answer = asyncio.run(run()) if way == "async" else client.completion(model="router-word-0.5", **RICH)
    assert server.bodies == [{"model": "strong", **RICH}]  # routed on the user's text, not on the tool's
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Rome"}'


def test_the_rule_which_message_is_routed_on_can_be_routellms(server: FakeChat) -> None:
    last = Controller(ROUTERS, "strong", "weak", api_base=server.url, upstream="openai", route_on="last")
    with last:
        last.completion(model="router-word-0.5", **RICH)
    assert server.models == ["weak"]
    with pytest.raises(rf.InvalidArgumentError, match="route_on is one of last_user, last, found 'first'"):
        Controller(ROUTERS, "strong", "weak", route_on="first")  # type: ignore[arg-type]


def test_each_model_may_have_a_server_and_a_key_of_its_own(server: FakeChat) -> None:
    common = {"api_base": server.url, "api_key": "common-key", "upstream": "openai"}
    with FakeChat() as other:
        for own in (
            {"strong_api_base": other.url, "strong_api_key": "strong-key"},
            {"strong_api_base": other.url},
            {"strong_api_key": "strong-key"},
            {"weak_api_base": other.url, "weak_api_key": "weak-key"},
        ):
            with Controller(ROUTERS, "strong", "weak", **common, **own) as client:  # type: ignore[arg-type]
                client.completion(model="router-word-0.5", messages=PROVE)
                client.completion(model="router-word-0.5", messages=HELLO)
        keys = [
            [(model, head.split("authorization: bearer ")[1].split("\r")[0]) for model, head in sent]
            for sent in (zip(found.models, found.heads, strict=True) for found in (server, other))
        ]
    weak = ("weak", "common-key")
    # A key goes to the address that it was given for, and to no other.
    assert keys[0] == [weak, weak, ("strong", "strong-key"), weak, ("strong", "common-key")]
    assert keys[1] == [("strong", "strong-key"), ("strong", "none"), ("weak", "weak-key")]


def test_an_upstream_may_be_ones_own() -> None:
    asked: list[dict[str, Any]] = []

    class Own:
        def completion(self, **request: Any) -> str:
            asked.append(request)
            return "sync"

        async def acompletion(self, **request: Any) -> str:
            asked.append(request)
            return "async"

    client = Controller(ROUTERS, "strong", "weak", api_key="k", upstream=Own())
    assert client.completion(model="router-word-0.5", messages=PROVE, anything=1) == "sync"
    assert asyncio.run(client.acompletion(model="router-word-0.5", messages=HELLO)) == "async"
    assert asked == [
        {"model": "strong", "api_base": None, "api_key": "k", "messages": PROVE, "anything": 1},
        {"model": "weak", "api_base": None, "api_key": "k", "messages": HELLO},
    ]
    with pytest.raises(TypeError, match="api_key"):
        client.completion(model="router-word-0.5", messages=PROVE, api_key="another")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({}, "Router or threshold unspecified."),
        ({"router": "word"}, "Router or threshold unspecified."),
        ({"threshold": 0.5}, "Router or threshold unspecified."),
        ({"router": "none", "threshold": 0.5}, "Invalid router none. Available routers are ['word']."),
        ({"router": "word", "threshold": 2}, "Invalid threshold 2. Threshold must be a float between 0.0 and 1.0."),
        ({"model": "gpt-4-1106-preview"}, "Threshold 1106-preview must be a float."),
        ({"model": "router-word-1.5"}, "Invalid threshold 1.5. Threshold must be a float between 0.0 and 1.0."),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_sent(
    client: Controller, server: FakeChat, request_: dict[str, Any], text: str
) -> None:
    async def run() -> None:
        await client.acompletion(messages=HELLO, **request_)

    calls: tuple[Callable[[], object], ...] = (
        lambda: client.completion(messages=HELLO, **request_),
        lambda: asyncio.run(run()),
    )
    for call in calls:
        with pytest.raises(RoutingError) as found:
            call()
        assert str(found.value) == text
    assert server.bodies == []
    assert client.model_counts == {}


def test_what_is_no_chat_is_refused(client: Controller) -> None:
    for messages in (None, "hello", [], [{"role": "user", "content": 3}]):
        with pytest.raises(rf.InvalidArgumentError, match="message"):
            client.completion(model="router-word-0.5", messages=messages)
    with pytest.raises(rf.InvalidArgumentError, match="found NoneType|not NoneType"):
        client.completion(model="router-word-0.5")


def test_an_error_of_the_model_comes_as_it_is_and_the_choice_counts(client: Controller, server: FakeChat) -> None:
    import openai

    server.refusals.append((400, {"error": {"message": "no such model", "code": "x"}}))
    with pytest.raises(openai.BadRequestError, match="no such model"):
        client.completion(model="router-word-0.5", messages=PROVE)
    assert client.model_counts == {"word": {"strong": 1}}


def test_route_names_the_model_and_counts_nothing(client: Controller) -> None:
    assert client.route("prove it", "word", 0.5) == "strong"
    assert client.route(prompt="hello", router="word", threshold=0.5) == "weak"
    assert client.model_counts == {}
    for arguments in (("none", 0.5), ("word", 7.0), ("word", None)):
        with pytest.raises(RoutingError):
            client.route("hello", *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("progress_bar", [False, True])
def test_win_rates_of_many_prompts(progress_bar: bool, capsys: pytest.CaptureFixture[str]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tqdm")
    client = Controller({"mf": mf_router(), **ROUTERS}, "strong", "weak", progress_bar=progress_bar)
    prompts = ["prove the a", "hello", "write b"] * 200
    expected = mf_router().win_rates(prompts)
    series = pandas.Series(prompts, index=range(100, 700), name="prompts")
    found = client.batch_calculate_win_rate(series, "mf")
    assert isinstance(found, pandas.Series)
    assert found.index.equals(series.index)
    assert (found.name, found.dtype) == ("prompts", np.float64)
    assert np.array_equal(found.to_numpy(np.float32), expected)
    assert np.array_equal(client.batch_calculate_win_rate(prompts=prompts, router="mf"), expected)
    with pytest.raises(RoutingError, match="Invalid router none"):
        client.batch_calculate_win_rate(prompts, "none")
    assert capsys.readouterr() == ("", "")  # a bar is for terminals


def test_the_attributes_are_routellms(server: FakeChat) -> None:
    client = Controller(["random", "mf"], "strong", "weak", None, server.url, "secret-key", False)
    assert client.model_pair == ModelPair(strong="strong", weak="weak")
    assert (client.model_pair.strong, client.model_pair.weak) == ("strong", "weak")
    assert list(client.routers) == ["random", "mf"]
    assert (client.api_base, client.api_key, client.progress_bar) == (server.url, "secret-key", False)
    assert repr(client) == "Controller(routers=['random', 'mf'], strong='strong', weak='weak')"
    assert "secret-key" not in repr(client._own_servers)
    assert client.routers["mf"].model_pair == ("strong", "weak")


def test_a_configuration_may_be_a_file(tmp_path: Path) -> None:
    mf_router().save(tmp_path / "saved")
    (tmp_path / "config.yaml").write_text(f"mf:\n  checkpoint_path: {tmp_path / 'saved'}\n")
    client = Controller(["mf"], "strong", "weak", config=tmp_path / "config.yaml")
    expected = mf_router().win_rates(["prove the a"])
    assert np.array_equal(client.batch_calculate_win_rate(["prove the a"], "mf"), expected)
    with pytest.raises(rf.InvalidArgumentError, match="bert ships"):
        Controller(["bert"], "strong", "weak")


def test_routers_that_were_given_stay_open() -> None:
    routers = RouterSet(ROUTERS)
    with Controller(routers, "strong", "weak") as client:
        assert client.routers is routers
    assert client.route("prove it", "word", 0.5) == "strong"


def test_one_model_on_two_servers(server: FakeChat) -> None:
    with FakeChat() as other:
        addresses = {"strong_api_base": server.url, "weak_api_base": other.url}
        with Controller(["mf"], "m", "m", **addresses, upstream="openai") as client:
            client.completion(model="router-mf-0", messages=HELLO)
            client.completion(model="router-mf-1", messages=HELLO)
        assert (server.models, other.models) == (["m"], ["m"])
        assert client.model_counts == {"mf": {"m": 2}}
    with pytest.raises(rf.InvalidArgumentError, match="weak_model is a model's name, found ''"):
        Controller(["mf"], "m", "")


def test_counts_are_exact_from_many_threads() -> None:
    class Deaf:
        def completion(self, **request: Any) -> None:
            return None

        async def acompletion(self, **request: Any) -> None:
            return None

    client = Controller(ROUTERS, "strong", "weak", upstream=Deaf())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.completion(model="router-word-0.5", messages=PROVE), range(2000)))
    assert client.model_counts == {"word": {"strong": 2000}}


def test_the_decision_does_not_keep_the_event_loop(server: FakeChat) -> None:
    may_answer = threading.Event()

    def slow(prompt: str) -> float:
        assert may_answer.wait(60.0)
        return 0.9

    client = Controller({"slow": FunctionRouter(slow)}, "strong", "weak", api_base=server.url, upstream="openai")

    async def run() -> str:
        # The router waits for what only this loop does.
        asyncio.get_running_loop().call_soon(may_answer.set)
        answer = await client.acompletion(model="router-slow-0.5", messages=HELLO)
        await client.aclose()
        return str(answer.model)

    assert asyncio.run(run()) == "strong"


def test_the_examples_of_routellms_readme(server: FakeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """RouteLLM's quickstart, its manual test and its local models: the calls as they are, the import changed."""
    monkeypatch.setattr("routellm_fast.upstreams.is_installed", {"litellm": False}.get)  # whatever is installed here
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)  # stands for OpenAI and for the other provider
    monkeypatch.setenv("OPENAI_API_KEY", "sk-XXXXXX")
    monkeypatch.setenv("ANYSCALE_API_KEY", "esecret_XXXXXX")
    strong_model, weak_model = "gpt-4-1106-preview", "anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1"
    with Controller(routers=["mf"], strong_model=strong_model, weak_model=weak_model) as client:
        response = client.chat.completions.create(
            model="router-mf-0.11593", messages=[{"role": "user", "content": "Hello!"}]
        )
        assert response.choices[0].message.content == f"{response.model} says hello"
        assert client.model_counts == {"mf": {response.model: 1}}
    with Controller(routers=["random"], strong_model=strong_model, weak_model=weak_model) as client:
        random.seed(3)
        chat_completion = client.chat.completions.create(
            router="random",
            threshold=0.7,
            messages=[
                {"role": "system", "content": "Answer as well as you can."},
                {"role": "user", "content": "Which is heavier, iron or wood?"},
            ],
            temperature=0.7,
        )
        random.seed(3)
        assert chat_completion.model == (strong_model if random.uniform(0, 1) >= 0.7 else weak_model)
    with Controller(routers=["mf"], strong_model="gpt-4-1106-preview", weak_model="ollama_chat/llama3") as client:
        response = client.chat.completions.create(
            model="router-mf-1.0", messages=[{"role": "user", "content": "Hello!"}]
        )
        assert response.model == "ollama_chat/llama3"
    assert all("authorization: bearer sk-xxxxxx\r\n" in head for head in server.heads)
