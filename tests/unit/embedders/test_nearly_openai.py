"""Embedding servers that are only nearly OpenAI's, over real sockets, by `embed` and by `aembed`."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.embedders._openai_manners import Manners
from tests.support.builders import mf_router
from tests.support.c_library import CRouter
from tests.support.fake_openai import FakeOpenAI, Reply, embed, vectors_for
from tests.support.manifests import editable_manifest

pytestmark = pytest.mark.usefixtures("no_server_settings")

Rule = Callable[[Any], "Reply | None"]

KEY = "sk-Secret0Key1For2Tests3Only4"
DIM = 9
TEXTS = [f"text {i}" for i in range(7)]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(dim=DIM) as fake:
        yield fake


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(server: FakeOpenAI, **overrides: Any) -> rf.OpenAIEmbedder:
    arguments = {"model": "m", "base_url": server.url, "dim": DIM, "timeout_s": 5.0, "max_retries": 0, **overrides}
    return rf.OpenAIEmbedder(**arguments)


def sizes(server: FakeOpenAI) -> list[int]:
    return [len(request.body["input"]) for request in server.requests]


def refusing(reply: Reply, *, when: Callable[[dict[str, Any]], bool]) -> Rule:
    return lambda request: reply if when(request.body) else None


def has_encoding(body: dict[str, Any]) -> bool:
    return "encoding_format" in body


# --- encoding_format


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"error": {"message": "m does not support parameters: encoding_format"}}),
        Reply(422, {"detail": "Value 'base64' is not valid for encoding_format"}),
        Reply(422, {"detail": [{"loc": ["body", "encoding_format"], "msg": "Extra inputs are not permitted"}]}),
        Reply(400, {"message": "base64 encoding is not implemented"}),
        Reply(400, {"error": "Unrecognized request argument supplied: encoding_format"}),
        Reply(400, {"error": {"message": "Unsupported parameter", "param": "encoding_format"}}),
        Reply(400, b"unknown field `encoding_format` in the request"),
        Reply(400, "encodingFormat must be float"),
        Reply(415, {"title": "Bad Request", "errors": ["Unsupported value for encoding_format"]}),
        Reply(400, {"error": "Bad Request", "message": "encoding_format is not supported"}),
        Reply(400, {"error": "an unsupported parameter was given"}),
        Reply(400, b""),
        # A success that holds nothing to read.
        Reply(200, {"data": []}),
        Reply(200, {"data": None}),
        Reply(200, {"error": "no such encoding"}),
        Reply(200, {"data": [{"index": i, "embedding": None} for i in range(7)]}),
        Reply(200, {"data": [{"index": i, "embedding": ""} for i in range(7)]}),
        Reply(200, {"data": [{"index": i, "embedding": []} for i in range(7)]}),
        Reply(200, {"data": [{"index": i, "embedding": "*no base64*"} for i in range(7)]}),
    ],
)
def test_base64_that_a_server_does_not_take_is_left_out_once_and_for_all(
    server: FakeOpenAI, way: str, reply: Reply
) -> None:
    server.rule = refusing(reply, when=has_encoding)
    embedder = connect(server)
    for _ in range(3):
        assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert [has_encoding(request.body) for request in server.requests] == [True, False, False, False]


def test_what_one_face_learned_the_other_knows(server: FakeOpenAI) -> None:
    server.rule = refusing(Reply(400, {"error": "encoding_format"}), when=has_encoding)
    embedder = connect(server)
    embed(embedder, TEXTS, "sync")
    embed(embedder, TEXTS, "async")
    assert [has_encoding(request.body) for request in server.requests] == [True, False, False]


@pytest.mark.parametrize(("asked", "sent"), [("base64", "base64"), ("float", "float"), ("none", None)])
def test_an_encoding_that_is_chosen_is_sent_and_never_changed(
    server: FakeOpenAI, way: str, asked: str, sent: str | None
) -> None:
    embedder = connect(server, encoding_format=asked)
    assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert server.requests[0].body.get("encoding_format") == sent
    server.otherwise = Reply(400, {"error": "encoding_format is refused"})
    with pytest.raises(rf.EmbedderUnavailableError, match="encoding_format is refused"):
        embed(embedder, TEXTS, way)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"the plain reason\n", "the plain reason"),
        ("a reason in JSON", "a reason in JSON"),
        ({"detail": "a detail"}, "a detail"),
        ({"message": "a message"}, "a message"),
        ({"error": "an error"}, "an error"),
        ({"error": {"detail": "an inner detail"}}, "an inner detail"),
        ({"errors": [{"msg": "the first"}, "the second"]}, "the first; the second"),
        ({"detail": [{"loc": ["body", "input", 3], "msg": "too short"}]}, "body.input.3: too short"),
        ({"title": "Bad Request", "detail": "a detail"}, "a detail; Bad Request"),
        ({"code": 20042, "why": {"text": "odd"}}, "code: 20042; why: text: odd"),
        ({}, "it gives no reason"),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_real_refusal_keeps_its_own_words(server: FakeOpenAI, way: str, status: int, body: Any, words: str) -> None:
    server.otherwise = Reply(status, body)
    with pytest.raises(rf.EmbedderUnavailableError) as caught:
        embed(connect(server), ["a"], way)
    assert f"answered status {status} to 1 texts for model 'm': {words}." in str(caught.value)
    assert len(server.requests) == (2 if body == {} and status != 403 else 1)


def test_a_server_that_refuses_everything_is_asked_a_few_times_and_not_for_ever(server: FakeOpenAI, way: str) -> None:
    words = "unsupported parameters: encoding_format, dimensions; batch size 3 > maximum allowed batch size 2"
    server.otherwise = Reply(400, {"error": words})
    for _ in range(2):
        server.requests.clear()
        with pytest.raises(rf.EmbedderUnavailableError, match="unsupported parameters"):
            embed(connect(server, model="openai/text-embedding-3-small"), TEXTS, way)
        assert 3 <= len(server.requests) <= 8


# --- index, order


@pytest.mark.parametrize(
    "reply",
    [
        Reply(index=None),
        Reply(index=lambda _: None),
        Reply(index=str),
        Reply(index=str, reverse=True),
        Reply(reverse=True),
        Reply(index=None, as_lists=True),
    ],
)
def test_vectors_are_put_in_the_order_of_the_texts(server: FakeOpenAI, way: str, reply: Reply) -> None:
    server.otherwise = reply
    assert np.array_equal(embed(connect(server), TEXTS, way), vectors_for(TEXTS, DIM))
    assert len(server.requests) == 1


# --- dimensions


def test_a_model_under_a_gateways_name_is_asked_for_shorter_vectors(server: FakeOpenAI, way: str) -> None:
    embedder = connect(server, model="openai/text-embedding-3-small")
    assert embed(embedder, ["a"], way).shape == (1, DIM)
    assert [request.body["dimensions"] for request in server.requests] == [DIM]
    assert rf.OpenAIEmbedder("azure/text-embedding-3-large", base_url=server.url).dim == 3072
    server.requests.clear()
    embed(connect(server, model="openai/text-embedding-ada-002"), ["a"], way)
    assert "dimensions" not in server.requests[0].body


@pytest.mark.parametrize("own_dim", [4, 32])
def test_a_server_with_vectors_of_another_length_is_asked_for_dimensions_once(
    server: FakeOpenAI, way: str, own_dim: int
) -> None:
    server.dim = own_dim
    embedder = connect(server)
    for _ in range(2):
        assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert [request.body.get("dimensions") for request in server.requests] == [None, DIM, DIM]


@pytest.mark.parametrize("ignores", [True, False])
def test_without_dimensions_another_length_is_an_error_that_names_both(
    server: FakeOpenAI, way: str, ignores: bool
) -> None:
    server.dim = 32
    vectors = [{"index": 0, "embedding": [0.5] * 32}]
    reply = Reply(body={"data": vectors}) if ignores else Reply(400, {"error": "dimensions is not supported"})
    server.rule = refusing(reply, when=lambda body: "dimensions" in body)
    with pytest.raises(rf.InvalidEmbeddingError, match="dim 32, expected 9"):
        embed(connect(server), ["a"], way)
    assert len(server.requests) == 2


def test_dimensions_that_a_gateway_refuses_are_left_out_where_it_knows_them_itself(
    server: FakeOpenAI, way: str
) -> None:
    refusal = Reply(400, {"error": {"message": "does not support parameters: encoding_format, dimensions"}})
    server.rule = refusing(refusal, when=lambda body: "dimensions" in body)
    embedder = connect(server, model="openai/text-embedding-3-small")
    for _ in range(2):
        assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert ["dimensions" in request.body for request in server.requests] == [True, False, False]
    server.dim = 1536
    with pytest.raises(rf.EmbedderUnavailableError, match="does not support parameters"):
        embed(connect(server, model="openai/text-embedding-3-small"), ["a"], way)


def test_dimensions_that_are_chosen_are_sent_and_never_changed(server: FakeOpenAI, way: str) -> None:
    server.dim = 32
    embedder = connect(server, dim=None, dimensions=DIM)
    assert embedder.dim == DIM
    assert embed(embedder, ["a"], way).shape == (1, DIM)
    assert [request.body["dimensions"] for request in server.requests] == [DIM]
    server.requests.clear()
    with pytest.raises(rf.InvalidEmbeddingError, match="dim 32, expected 9"):
        embed(connect(server, dimensions=0), ["a"], way)
    assert ["dimensions" in request.body for request in server.requests] == [False]
    server.requests.clear()
    server.dim = DIM
    embed(connect(server, model="text-embedding-3-small", dimensions=0), ["a"], way)
    assert "dimensions" not in server.requests[0].body


# --- the most texts a request


@pytest.mark.parametrize(
    ("status", "most", "words"),
    [
        (413, 2, {"message": "batch size {count} > maximum allowed batch size {most}"}),
        (422, 2, {"error": "batch size {count} > maximum allowed batch size {most}", "error_type": "Validation"}),
        (400, 10, {"error": {"message": "Value error, batch size is invalid, it should not be larger than {most}.: "}}),
        (
            422,
            10,
            {"detail": [{"loc": ["body", "input"], "msg": "List should have at most {most} items, not {count}"}]},
        ),
        (400, 32, {"error": "Too many inputs for model None. The max number of inputs is {most}."}),
        (400, 32, b"total number of texts must be at most {most} - received {count}"),
        (400, 32, {"code": 20042, "message": "input batch size {count} > maximum allowed batch size {most}"}),
        (400, 32, "The batch size limit is {most}. Your batch size is {count}."),
        (422, 10, {"detail": "between 1 and {most} inputs are taken, got {count}"}),
    ],
)
def test_a_server_that_takes_fewer_texts_is_sent_as_many_as_it_names(
    server: FakeOpenAI, way: str, status: int, most: int, words: Any
) -> None:
    def reply(request: Any) -> Reply | None:
        count = len(request.body["input"])
        if count <= most:
            return None
        text = words.decode() if isinstance(words, bytes) else json.dumps(words)
        return Reply(status, text.replace("{count}", str(count)).replace("{most}", str(most)).encode())

    server.rule = reply
    embedder = connect(server)
    texts = [f"text {i}" for i in range(2 * most + 1)]
    assert np.array_equal(embed(embedder, texts, way), vectors_for(texts, DIM))
    assert sizes(server) == [2 * most + 1, most, most, 1]
    server.requests.clear()
    assert np.array_equal(embed(embedder, texts, way), vectors_for(texts, DIM))
    assert sorted(sizes(server)) == [1, most, most]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"message": "Too many inputs in request, split into more batches."}),
        Reply(413, b"<html><title>413 Request Entity Too Large</title></html>"),
        Reply(413, b""),
        Reply(413, {"error": "maximum request size is 1 MB"}),
    ],
)
def test_a_limit_that_is_not_named_is_found_by_halving(server: FakeOpenAI, way: str, reply: Reply) -> None:
    server.rule = refusing(reply, when=lambda body: len(body["input"]) > 3)
    embedder = connect(server)
    texts = [f"text {i}" for i in range(16)]
    assert np.array_equal(embed(embedder, texts, way), vectors_for(texts, DIM))
    assert sizes(server)[:4] == [16, 8, 4, 2]
    server.requests.clear()
    embed(embedder, texts, way)
    assert max(sizes(server)) <= 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 8192 tokens, however you requested 10000 tokens"),
        (413, "`inputs` must have less than 512 tokens. Given: 600"),
        (422, "the input is longer than 2000 characters"),
        (413, "the input is longer than 2000 characters"),
        (400, "no such model"),
    ],
)
def test_a_text_that_is_too_long_is_no_limit_of_texts(server: FakeOpenAI, way: str, status: int, words: str) -> None:
    server.otherwise = Reply(status, {"error": words})
    with pytest.raises(rf.EmbedderUnavailableError) as caught:
        embed(connect(server), TEXTS, way)
    assert words in str(caught.value)
    assert sizes(server) == [7]


def test_a_limit_that_no_success_confirms_is_not_remembered(server: FakeOpenAI, way: str) -> None:
    server.script.extend([Reply(413, b"too large")] * 10)
    embedder = connect(server)
    with pytest.raises(rf.EmbedderUnavailableError, match="too large"):
        embed(embedder, TEXTS, way)
    assert sizes(server) == [7, 3, 1]
    server.script.clear()
    server.requests.clear()
    embed(embedder, TEXTS, way)
    assert sizes(server) == [7]


def test_threads_that_learn_at_once_agree(server: FakeOpenAI) -> None:
    server.rule = lambda request: (
        Reply(400, {"error": "encoding_format"})
        if has_encoding(request.body)
        else Reply(413, {"error": "at most 2 inputs"})
        if len(request.body["input"]) > 2
        else None
    )
    embedder = connect(server)
    with embedder, concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: embedder.embed(TEXTS), range(24)))
        server.requests.clear()
        answers.append(embedder.embed(TEXTS))
    for answer in answers:
        assert np.array_equal(answer, vectors_for(TEXTS, DIM))
    assert sizes(server) == [2, 2, 2, 1]
    assert not any(has_encoding(request.body) for request in server.requests)


def test_each_refusal_leaves_less_to_try() -> None:
    refusal = "unsupported parameters encoding_format and dimensions; at most 999 inputs"
    manners: Manners | None = Manners.of("auto", None, 2048, is_shortened=True)
    count, tries = 2048, 0
    while manners is not None:
        count = min(count, manners.most_texts)
        manners = manners.after_refusal(400, refusal, count)
        tries += 1
        assert tries < 16
    assert count == 1


# --- the dim of an unknown model


def test_the_server_is_asked_for_a_dim_that_is_not_given_once(server: FakeOpenAI, way: str) -> None:
    embedder = connect(server, dim=None)
    assert repr(embedder).endswith("dim=None)")
    assert server.requests == []
    assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert sizes(server) == [1, 7]
    assert embedder.dim == DIM
    assert embedder.fingerprint == connect(server).fingerprint
    assert repr(embedder).endswith(f"dim={DIM})")
    assert embed(embedder, [], way).shape == (0, DIM)
    assert len(server.requests) == 2
    assert pickle.loads(pickle.dumps(embedder)).dim == DIM


def test_no_texts_have_the_servers_dim(server: FakeOpenAI, way: str) -> None:
    assert embed(connect(server, dim=None), [], way).shape == (0, DIM)
    assert sizes(server) == [1]


def test_a_dim_that_is_asked_for_is_counted_in_numbers(server: FakeOpenAI, way: str) -> None:
    # Some servers answer base64 with float64, which looks like twice as many values.
    double = base64.b64encode(np.ones(DIM, "<f8").tobytes()).decode()
    server.rule = refusing(Reply(body={"data": [{"embedding": double}]}), when=has_encoding)
    embedder = connect(server, dim=None)
    with embedder:
        assert embedder.dim == DIM


def test_many_tasks_and_threads_ask_for_the_dim_once(server: FakeOpenAI) -> None:
    embedder = connect(server, dim=None)
    with embedder, concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: embedder.dim, range(12))) == {DIM}
    assert len(server.requests) == 1

    async def run() -> None:
        async with connect(server, dim=None) as other:
            await asyncio.gather(*(other.aembed(["a"]) for _ in range(8)))

    server.requests.clear()
    asyncio.run(run())
    assert len(server.requests) == 9


def test_a_dim_that_cannot_be_asked_for_says_why_and_what_to_do(server: FakeOpenAI, way: str) -> None:
    server.otherwise = Reply(404, {"error": "model 'm' not found, try pulling it first"})
    with pytest.raises(rf.EmbedderUnavailableError, match=r"try pulling it first.*Or give dim=") as caught:
        embed(connect(server, dim=None), ["a"], way)
    assert caught.value.__context__ is None
    with pytest.raises(rf.EmbedderUnavailableError, match=r"dim of 'm' is not known"):
        rf.CachedEmbedder(connect(server, dim=None))


# --- an address with a query


def test_the_query_of_an_address_is_kept_in_every_request(server: FakeOpenAI, way: str) -> None:
    server.rule = refusing(Reply(400, {"error": "encoding_format"}), when=has_encoding)
    embedder = connect(server, base_url=f"{server.url}/?api-version=2024-10-21&team=a.b")
    assert np.array_equal(embed(embedder, TEXTS, way), vectors_for(TEXTS, DIM))
    assert {request.path for request in server.requests} == {"/v1/embeddings?api-version=2024-10-21&team=a.b"}
    assert len(server.requests) == 2
    # The same server by another version is the same server.
    assert embedder.fingerprint == connect(server).fingerprint


def test_errors_show_an_addresss_version_and_no_other_value(server: FakeOpenAI, way: str) -> None:
    server.rule = lambda request: Reply(400, {"error": f"{request.path} is wrong"})
    embedder = connect(server, base_url=f"{server.url}?api-version=2024-10-21&tenant={KEY}")
    with pytest.raises(rf.EmbedderUnavailableError) as caught:
        embed(embedder, ["a"], way)
    assert f"{server.url}/embeddings?api-version=2024-10-21&tenant=... answered" in str(caught.value)
    assert KEY not in str(caught.value) + repr(embedder) + str(embedder.stored()[0]["name"])


@pytest.mark.parametrize("name", ["key", "api_key", "api-key", "apikey", "access_token", "subscription-key", "sig"])
def test_a_key_in_the_address_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(rf.InvalidArgumentError, match=f"parameter '{name}': give the key as api_key") as caught:
        rf.OpenAIEmbedder("m", base_url=f"http://localhost/v1?{name}={KEY}", dim=DIM)
    assert KEY not in str(caught.value)


def test_the_environments_key_goes_to_its_server_whatever_the_version(
    server: FakeOpenAI, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}?api-version=1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-of-the-administrator")
    embed(connect(server), ["a"], way)
    embed(connect(server, base_url=None), ["a"], way)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert [request.path for request in server.requests] == ["/v1/embeddings", "/v1/embeddings?api-version=1"]


# --- a router directory


def test_a_router_directory_keeps_how_the_server_is_asked(server: FakeOpenAI, way: str, tmp_path: Path) -> None:
    chosen = {"batch_size": 2, "dimensions": DIM, "encoding_format": "float"}
    embedder = connect(server, **chosen, api_key=KEY, base_url=f"{server.url}?api-version=1")
    mf_router(embedder=embedder).save(tmp_path / "router")  # type: ignore[arg-type]
    assert all(KEY.encode() not in path.read_bytes() for path in (tmp_path / "router").iterdir())
    loaded = rf.load_router(tmp_path / "router", allow_server=server.url).embedder
    assert isinstance(loaded, rf.OpenAIEmbedder)
    assert loaded.stored() == embedder.stored()
    assert loaded.fingerprint == embedder.fingerprint == connect(server).fingerprint
    # The C library scores embeddings of it: embedding is the owner's task.
    native = CRouter(tmp_path / "router")
    assert (native.dim, native.reads_text) == (DIM, False)
    assert np.array_equal(embed(loaded, TEXTS, way), vectors_for(TEXTS, DIM))
    asked = {(request.body["encoding_format"], request.body["dimensions"]) for request in server.requests}
    assert asked == {("float", DIM)}
    assert sorted(sizes(server)) == [1, 2, 2, 2]
    assert {request.path for request in server.requests} == {"/v1/embeddings?api-version=1"}


def test_a_directory_without_choices_is_what_it_always_was(server: FakeOpenAI) -> None:
    embedder = connect(server, max_chars=5)
    entry, _, _ = embedder.stored()
    assert entry["settings"] == {
        "model": "m", "base_url": server.url, "dim": DIM, "provider": server.url.partition("://")[2], "max_chars": 5
    }  # fmt: skip
    default = rf.OpenAIEmbedder(dim=512)
    assert default.fingerprint == "sha256:e998554e8ddd3d111650c00125e64945753166daa25e0468c922ed3c7bd9df9f"
    assert set(default.stored()[0]["settings"]) == {"model", "base_url", "dim", "provider", "max_chars"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size must be 1 to 2048"),
        ({"batch_size": "many"}, "batch_size must be an integer"),
        ({"encoding_format": "octal"}, "encoding_format must be one of auto, base64, float, none"),
        ({"dimensions": 5}, "dim is the length"),
        ({"base_url": f"http://localhost?api_key={KEY}"}, "must hold no key"),
        ({"api_key": KEY}, "settings hold api_key"),
    ],
)
def test_settings_of_a_directory_are_checked(
    server: FakeOpenAI, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    mf_router(embedder=connect(server)).save(tmp_path / "router")  # type: ignore[arg-type]
    manifest = tmp_path / "router" / "router.json"
    content = editable_manifest(manifest)
    content["embedder"]["settings"].update(settings)
    manifest.write_text(json.dumps(content))
    with pytest.raises(rf.ArtifactFormatError, match=words) as caught:
        rf.load_router(tmp_path / "router")
    assert KEY not in str(caught.value)


def test_reading_a_directory_asks_no_server(server: FakeOpenAI, tmp_path: Path) -> None:
    mf_router(embedder=connect(server)).save(tmp_path / "router")  # type: ignore[arg-type]
    manifest = tmp_path / "router" / "router.json"
    content = editable_manifest(manifest)
    content["embedder"]["settings"]["dim"] = None
    manifest.write_text(json.dumps(content))
    assert rf.load_router(tmp_path / "router", allow_server=server.url).embedder.dim == DIM
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"encoding_format": "utf-8"}, rf.InvalidArgumentError),
        ({"dimensions": -1}, rf.InvalidArgumentError),
        ({"dimensions": 8}, rf.InvalidArgumentError),  # dim is 9
        ({"dimensions": 8.5}, TypeError),
        ({"batch_size": "2"}, TypeError),
        ({"batch_size": True}, TypeError),
        ({"dim": "9"}, rf.InvalidArgumentError),
        ({"dim": 9.5}, rf.InvalidArgumentError),
        ({"base_url": "http://localhost/v1?a=1&a=2"}, rf.InvalidArgumentError),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        rf.OpenAIEmbedder(**{"model": "m", "base_url": "http://localhost", "dim": DIM, **arguments})
