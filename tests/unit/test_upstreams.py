"""What the openai package is told, where it goes, and which key goes along: over real sockets."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import routellm_fast as rf
from routellm_fast.upstreams import LiteLLMUpstream, OpenAIUpstream, named_upstream
from tests.support.fake_chat import FakeChat
from tests.support.raw_server import Peer, RawRequest, RawServer, answer

pytest.importorskip("openai")
MESSAGES = [{"role": "user", "content": "Hello"}]
_SECRETS = {
    "OPENAI_API_KEY": "secret-api-key",
    "OPENAI_ORG_ID": "secret-organization",
    "OPENAI_PROJECT_ID": "secret-project",
    "OPENAI_CUSTOM_HEADERS": "X-Own: secret-own\nAuthorization: Bearer secret-bearer\nCookie: a=secret-cookie\n"
    "Host: secret.example",
}


@pytest.fixture(autouse=True)
def nothing_is_set(no_server_settings: None) -> None:
    pass


def ask(way: str, model: str = "m", *, api_base: str | None, api_key: str | None = None, **request: Any) -> Any:
    """One chat, in one of the two ways; leaves no connection open."""
    upstream = OpenAIUpstream()
    request = {"messages": MESSAGES, "max_retries": 0, **request}
    if way == "sync":
        try:
            return upstream.completion(model=model, api_base=api_base, api_key=api_key, **request)
        finally:
            upstream.close()

    async def run() -> Any:
        try:
            return await upstream.acompletion(model=model, api_base=api_base, api_key=api_key, **request)
        finally:
            await upstream.aclose()

    return asyncio.run(run())


WAYS = pytest.mark.parametrize("way", ["sync", "async"])


@WAYS
def test_what_a_request_holds_goes_into_the_body(way: str) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "stream_options": {"include_usage": True},
        "top_k": 5,  # not OpenAI's
        "of_tomorrow": {"a": [1, None]},
    }
    with FakeChat() as server:
        found = ask(way, "openai/m", api_base=server.url, **fields, extra_body={"top_k": 6, "min_p": 0.1})
        assert found.choices[0].message.content == "m says hello"
        assert server.bodies == [{"messages": MESSAGES, "model": "m", **fields, "top_k": 6, "min_p": 0.1}]
        assert server.heads[0].startswith("post /v1/chat/completions http/1.1")


@WAYS
def test_headers_and_query_of_a_request_are_sent(way: str) -> None:
    with FakeChat() as server:
        ask(
            way,
            api_base=f"{server.url}?api-version=2024-10-21",
            extra_headers={"X-Mine": "yes"},
            extra_query={"more": "1"},
        )
        assert "post /v1/chat/completions?api-version=2024-10-21&more=1 http/1.1" in server.heads[0]
        assert "x-mine: yes" in server.heads[0]


@WAYS
def test_what_the_environment_holds_goes_to_no_address_that_it_does_not_name(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    with FakeChat() as server:
        ask(way, api_base=server.url)
        ask(way, api_base=server.url, api_key="given-key", extra_headers={"X-Mine": "yes"})
        assert all("secret" not in head for head in server.heads)
        assert "authorization: bearer none\r\n" in server.heads[0]
        assert "authorization: bearer given-key\r\n" in server.heads[1]
        assert "x-mine: yes" in server.heads[1]


@WAYS
def test_the_server_that_the_environment_names_gets_its_key(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeChat() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "its-key")
        monkeypatch.setenv("OPENAI_ORG_ID", "its-organization")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        ask(way, "anyone/m", api_base=None)
        assert server.models == ["anyone/m"]
        assert "authorization: bearer its-key\r\n" in server.heads[0]
        assert "openai-organization: its-organization" in server.heads[0]


def test_without_an_address_openai_is_meant_and_needs_a_key_and_a_name_of_its_own() -> None:
    with pytest.raises(rf.EndpointError, match=r"no key for https://api\.openai\.com/v1: pass api_key="):
        ask("sync", api_base=None)
    with pytest.raises(rf.InvalidArgumentError, match="OpenAI has no model 'mistralai/m': give the address"):
        ask("sync", "mistralai/m", api_base=None, api_key="k")
    with pytest.raises(rf.InvalidArgumentError, match="must hold no user name or password"):
        ask("sync", api_base="http://me:secret@localhost/v1")


@WAYS
def test_a_redirect_is_not_followed(way: str) -> None:
    import openai

    with FakeChat() as other:

        def away(peer: Peer, request: RawRequest) -> None:
            peer.send(answer(307, headers=(("Location", f"{other.url}/chat/completions"),)))

        with RawServer(away) as server, pytest.raises(openai.APIStatusError):
            ask(way, api_base=server.url)
        assert other.bodies == []


@WAYS
def test_a_refusal_is_tried_again_as_often_as_the_request_says(way: str) -> None:
    import openai

    with FakeChat() as server:
        server.refusals.extend([(503, {"error": {"message": "busy"}})] * 2)
        with pytest.raises(openai.APIStatusError, match="busy"):
            ask(way, api_base=server.url, max_retries=0)
        assert ask(way, api_base=server.url, max_retries=1).model == "m"


def test_one_client_serves_a_server_and_a_key() -> None:
    upstream = OpenAIUpstream()
    with FakeChat() as server, FakeChat() as other:
        for target, key in ((server, "a"), (server, "a"), (server, "b"), (other, "a")):
            upstream.completion(model="m", api_base=target.url, api_key=key, messages=MESSAGES)
        assert ["bearer b" in head for head in server.heads] == [False, False, True]
        assert len(upstream._current()._blocking) == 3
        upstream.close()


def test_each_event_loop_has_connections_of_its_own_and_they_are_shared_within_it() -> None:
    upstream = OpenAIUpstream()
    with FakeChat() as server:

        async def run() -> int:
            asking = (upstream.acompletion(model="m", api_base=server.url, api_key=None, messages=MESSAGES),)
            await asyncio.gather(*asking)
            more = [
                upstream.acompletion(model="m", api_base=server.url, api_key=None, messages=MESSAGES) for _ in range(9)
            ]
            await asyncio.gather(*more)
            clients = len(upstream._current()._of_loop[asyncio.get_running_loop()])
            await upstream.aclose()
            return clients

        assert [asyncio.run(run()) for _ in range(2)] == [1, 1]
        assert len(server.bodies) == 20
        gc.collect()  # a connection that was left open would warn


def test_an_upstream_has_a_name_or_is_one() -> None:
    assert isinstance(named_upstream("openai"), OpenAIUpstream)
    assert isinstance(named_upstream("litellm"), LiteLLMUpstream)
    own = OpenAIUpstream()
    assert named_upstream(own) is own
    with pytest.raises(rf.InvalidArgumentError, match=r'upstream is "litellm", "openai" or an object'):
        named_upstream("vllm")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lacks completion and acompletion"):
        named_upstream(3)  # type: ignore[call-overload]


def test_none_is_litellm_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routellm_fast.upstreams.is_installed", {"litellm": True}.get)
    assert isinstance(named_upstream(None), LiteLLMUpstream)
    monkeypatch.setattr("routellm_fast.upstreams.is_installed", {"litellm": False}.get)
    assert isinstance(named_upstream(None), OpenAIUpstream)


@WAYS
def test_a_missing_litellm_names_its_extra(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "litellm", None)
    upstream, request = LiteLLMUpstream(), {"model": "m", "api_base": None, "api_key": None, "messages": MESSAGES}
    with pytest.raises(rf.MissingExtraError, match=r"'\.\[litellm\]'"):
        asyncio.run(upstream.acompletion(**request)) if way == "async" else upstream.completion(**request)
