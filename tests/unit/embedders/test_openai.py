from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import json
import logging
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.embedders._openai_answer import UnfitAnswer, parse_answer
from tests.support.builders import mf_router
from tests.support.fake_openai import FakeOpenAI, Reply, embed, vector_for, vectors_for
from tests.support.processes import run_python

pytestmark = pytest.mark.usefixtures("no_server_settings")

KEY = "sk-Secret0Key1For2Tests3Only4"
TEXTS = [f"text {i}" for i in range(10)]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(dim=8) as fake:
        yield fake


def connect(server: FakeOpenAI, **overrides: Any) -> rf.OpenAIEmbedder:
    arguments = {"model": "local-model", "base_url": server.url, "dim": server.dim, "timeout_s": 5.0, **overrides}
    return rf.OpenAIEmbedder(**arguments)


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what is sent and what comes back


@pytest.mark.parametrize(
    "reply", [Reply(), Reply(reverse=True), Reply(as_lists=True), Reply(as_lists=True, reverse=True)]
)
def test_vectors_come_back_exactly_and_in_order(server: FakeOpenAI, way: str, reply: Reply) -> None:
    server.otherwise = reply
    vectors = embed(connect(server, batch_size=4), TEXTS, way)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.array_equal(vectors, vectors_for(TEXTS, 8))
    assert sorted(len(request.body["input"]) for request in server.requests) == [2, 4, 4]
    assert {request.path for request in server.requests} == {"/v1/embeddings"}
    assert {request.body["model"] for request in server.requests} == {"local-model"}


def test_no_texts_need_no_request_and_no_key(way: str) -> None:
    assert embed(rf.OpenAIEmbedder(), [], way).shape == (0, 1536)


def test_requests_stay_within_openais_token_limit(server: FakeOpenAI) -> None:
    texts = ["é" * 70_000, "a" * 160_000, "b", "c" * 400_000, "d"]
    assert np.array_equal(embed(connect(server), texts, "sync"), vectors_for(texts, 8))
    sizes = [[len(text.encode()) for text in request.body["input"]] for request in server.requests]
    assert sizes == [[140_000, 160_000], [1], [400_000], [1]]


def test_only_a_dim_that_differs_from_the_models_own_is_asked_for(server: FakeOpenAI) -> None:
    for model, dim in (("text-embedding-3-small", 16), ("text-embedding-3-large", 16)):
        assert embed(connect(server, model=model, dim=dim), ["a"], "sync").shape == (1, dim)
        assert server.requests[-1].body["dimensions"] == dim
    embed(connect(server), ["a"], "sync")
    server.dim = 1536
    embed(connect(server, model="text-embedding-3-small", dim=None), ["a"], "sync")
    assert "dimensions" not in server.requests[-2].body
    assert "dimensions" not in server.requests[-1].body


def test_texts_that_no_request_can_carry_are_replaced(server: FakeOpenAI, way: str) -> None:
    embed(connect(server), ["", " ", "\n", "a\ud800b", "\U0001f600", "\x00"], way)
    assert server.texts == [" ", " ", "\n", "a\ufffdb", "\U0001f600", "\x00"]


def test_max_chars_cuts_texts_and_is_part_of_the_identity(server: FakeOpenAI) -> None:
    embedder = connect(server, max_chars=3)
    embed(embedder, ["abcdef", "ab", ""], "sync")
    assert server.texts == ["abc", "ab", " "]
    assert embedder.fingerprint != connect(server).fingerprint


def test_texts_are_checked(server: FakeOpenAI, way: str) -> None:
    with pytest.raises(TypeError, match="text 1 must be str, not NoneType"):
        embed(connect(server), ["a", None], way)  # type: ignore[list-item]
    assert not server.requests


# --- when it goes wrong


@pytest.mark.parametrize(
    "fault",
    [
        Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}),
        Reply(500, b"oops", {"Retry-After": "0.05"}),
        Reply(503, {}, {"Retry-After": "0.05"}),
        Reply(hang_up=True),
    ],
)
def test_passing_faults_are_retried(server: FakeOpenAI, way: str, fault: Reply) -> None:
    server.script.append(fault)
    assert np.array_equal(embed(connect(server), ["a"], way), vectors_for(["a"], 8))
    assert len(server.requests) == 2


def test_retry_after_is_obeyed(server: FakeOpenAI) -> None:
    server.script.append(Reply(429, {}, {"Retry-After": "0.9"}))
    start = time.monotonic()
    embed(connect(server), ["a"], "sync")
    assert time.monotonic() - start >= 0.9


@pytest.mark.parametrize(
    ("status", "retried", "advice"),
    [
        (400, False, "max_chars"),
        (401, False, "api_key"),
        (403, False, "OPENAI_API_KEY"),
        (404, False, "model's name"),
        (429, True, "Rate limit"),
        (500, True, "try later"),
    ],
)
def test_a_refusal_tells_address_status_and_remedy(
    server: FakeOpenAI, way: str, status: int, retried: bool, advice: str
) -> None:
    server.otherwise = Reply(status, {"error": {"message": "the server's words"}}, {"Retry-After": "0.01"})
    with pytest.raises(rf.EmbedderUnavailableError) as caught:
        embed(connect(server, max_retries=2), ["a"], way)
    for words in (f"{server.url}/embeddings", str(status), "local-model", "the server's words", advice):
        assert words in str(caught.value)
    assert len(server.requests) == (3 if retried else 1)


def test_a_slow_server_is_a_time_out(server: FakeOpenAI, way: str) -> None:
    server.otherwise = Reply(delay_s=0.6)
    with pytest.raises(rf.EmbedderUnavailableError, match=r"no answer within 0\.1 s.*timeout_s"):
        embed(connect(server, timeout_s=0.1, max_retries=0), ["a"], way)


def test_nobody_listens(way: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        embedder = rf.OpenAIEmbedder("m", base_url=url, dim=8, max_retries=0)
        with pytest.raises(rf.EmbedderUnavailableError, match=r"cannot be reached.*Check base_url") as caught:
            embed(embedder, ["a"], way)
    assert url in str(caught.value)


def answer(*items: Any) -> bytes:
    return json.dumps({"data": list(items)}).encode()


def item(index: Any = 0, embedding: Any = None) -> dict[str, Any]:
    return {"index": index, "embedding": [0.5] * 8 if embedding is None else embedding}


def in_base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "0 bytes that hold no embeddings"),
        (b"<html>a proxy's page</html>", "a proxy's page"),
        (b'{"data": [', "no embeddings"),
        (b"\xff\xfe", "no embeddings"),
        (b"[" * 100_000, "no embeddings"),
        (b"[]", "no embeddings"),
        (b'{"data": null}', "no embeddings"),
        (b'{"error": "in a 200"}', "in a 200"),
        (answer(item()), "1 vectors for 2 texts"),
        (answer(item(0), item(1), item(2)), "3 vectors for 2 texts"),
        (answer(item(0), item(0)), "index"),
        (answer(item(0), item(2)), "index"),
        (answer(item(0), item(-1)), "index"),
        (answer(item(0), item(True)), "index"),
        (answer(item(0), {"embedding": [0.5] * 8}), "index"),
        (answer(item(0), None), "index"),
        (answer(item(0), item(1, [0.5] * 7)), "dim 7, expected 8"),
        (answer(item(0), item(1, [])), "base64 of float32: nothing"),
        (answer(item(0), item(1, 3.5)), "neither a list of numbers nor base64 of float32: float"),
        (answer(item(0), {"index": 1}), "nothing"),
        (answer(item("0"), item("0")), "index"),
        (answer(item("0"), item("one")), "index"),
        (answer(item(0.0), item(1.0)), "index"),
        (answer(item(0), item(1, "*not base64*")), "base64"),
        (answer(item(0), item(1, "AAAA")), "base64"),
        (answer(item(0), item(1, ["0.5"] * 8)), "real numbers"),
        (answer(item(0), item(1, [None] * 8)), "real numbers"),
        (answer(item(0), item(1, [[0.5]] * 8)), "unequal"),
        (answer(item(0), item(1, [0.5] * 7 + [float("nan")])), "nan in row 1, column 7"),
        (answer(item(0), item(1, [0.5] * 7 + [1e39])), "1e\\+39 in row 1"),
        (answer(item(0), item(1, in_base64(np.full(8, np.inf, "<f4")))), "inf in row 1"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(UnfitAnswer, match=message) as caught:
        parse_answer(body, 2, 8, "http://localhost/v1/embeddings", str)
    assert "http://localhost/v1/embeddings" in str(caught.value)


def test_a_refused_answer_is_not_asked_for_again(server: FakeOpenAI, way: str) -> None:
    for body in (b"<html>", answer(item(0)), answer(item(0), item(2)), answer(item(0), item(1, [None] * 8))):
        server.otherwise = Reply(body=body)
        server.requests.clear()
        with pytest.raises(rf.InvalidEmbeddingError, match=server.url):
            embed(connect(server), ["a", "b"], way)
        assert len(server.requests) == 1


# --- the key


def test_the_argument_goes_before_the_environment(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    embed(connect(server, api_key=f" {KEY}\n"), ["a"], way)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_environments_key_goes_only_to_openai_and_to_the_environments_server(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embed(connect(server), ["a"], "sync")
    assert KEY not in server.requests[-1].headers["authorization"]
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    embed(connect(server), ["a"], "sync")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    embed(connect(server, base_url=None), ["a"], "sync")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_read_when_the_first_request_is_sent(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    embedder = connect(server, base_url=None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embed(embedder, ["a"], "sync")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_openai_needs_a_key(way: str) -> None:
    with pytest.raises(rf.EmbedderUnavailableError, match="pass api_key= or set OPENAI_API_KEY"):
        embed(rf.OpenAIEmbedder(), ["a"], way)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-ключ", "sk a"])
def test_a_key_that_no_header_can_carry_is_named_but_not_shown(server: FakeOpenAI, key: str, way: str) -> None:
    with pytest.raises(rf.EmbedderUnavailableError, match="check for typos") as caught:
        embed(connect(server, api_key=key), ["a"], way)
    assert key not in str(caught.value)


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += logging.Formatter("%(name)s %(message)s").format(record) + repr(record.__dict__) + "\n"


def told(error: BaseException | None) -> str:
    """All that an exception, and those behind it, would print."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


def test_the_key_shows_nowhere(server: FakeOpenAI, way: str) -> None:
    root = logging.getLogger()
    recorder = Recorder()
    levels = {
        name: logging.getLogger(name).level for name in ("", "openai", "httpx", "httpx2", "httpcore", "httpcore2")
    }
    root.addHandler(recorder)
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.DEBUG)
        embedder = connect(server, api_key=KEY, max_retries=1, timeout_s=0.3)
        embed(embedder, ["a"], way)
        recorder.text += repr(embedder) + str(embedder) + repr(vars(embedder)) + repr(embedder.stored())
        echo = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}
        for reply in (
            Reply(401, echo),
            Reply(400, KEY.encode()),
            Reply(500, echo, {"Retry-After": "0.01"}),
            Reply(body=f"<p>{KEY}</p>".encode()),
            Reply(hang_up=True),
            Reply(delay_s=0.5),
        ):
            server.otherwise = reply
            with pytest.raises(rf.EmbeddingError) as caught:
                embed(embedder, ["a"], way)
            recorder.text += told(caught.value)
    finally:
        root.removeHandler(recorder)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert "openai" in recorder.text
    leaks = [line for line in recorder.text.splitlines() if KEY in line]
    assert not leaks


def test_a_stand_in_for_a_key_is_a_word_like_others(server: FakeOpenAI, way: str) -> None:
    server.otherwise = Reply(400, {"error": {"message": "the input is EMPTY"}})
    with pytest.raises(rf.EmbedderUnavailableError, match="the input is EMPTY"):
        embed(connect(server, api_key="EMPTY"), ["a"], way)


def test_every_key_that_was_sent_is_cut_out(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embedder = connect(server)
    embed(embedder, ["a"], "sync")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-secret")
    server.otherwise = Reply(400, {"error": {"message": f"{KEY} or sk-another-secret"}})
    with pytest.raises(rf.EmbedderUnavailableError, match=r"\[key\] or \[key\]"):
        embed(embedder, ["a"], "sync")


def test_the_key_is_not_saved_with_a_router(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.dim = 9
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embedder = connect(server, api_key=KEY, provider="us", max_chars=100)
    mf_router(embedder=embedder).save(tmp_path / "router")  # type: ignore[arg-type]
    assert all(KEY.encode() not in path.read_bytes() for path in (tmp_path / "router").iterdir())
    loaded = rf.load_router(tmp_path / "router", allow_server=server.url).embedder
    assert isinstance(loaded, rf.OpenAIEmbedder)
    assert loaded.fingerprint == embedder.fingerprint
    assert np.array_equal(embed(loaded, ["a"], "sync"), vectors_for(["a"], 9))
    assert KEY not in server.requests[-1].headers["authorization"]


# --- identity and arguments


def test_identity_is_provider_model_dim_and_cut() -> None:
    def fingerprint(**arguments: Any) -> str:
        return rf.OpenAIEmbedder(**arguments).fingerprint

    default = fingerprint()
    assert default == fingerprint(api_key=KEY, timeout_s=1, batch_size=2, base_url="https://api.openai.com/v1/")
    assert default == fingerprint(base_url="https://eu.api.openai.com/v1")
    assert default == fingerprint(base_url="http://gateway:4000", provider="openai")
    others = [
        fingerprint(model="text-embedding-ada-002"),
        fingerprint(dim=512),
        fingerprint(max_chars=100),
        fingerprint(base_url="http://gateway:4000"),
        fingerprint(base_url="http://gateway:4001"),
        fingerprint(base_url="http://api.openai.com/v1"),
        fingerprint(base_url="https://api.openai.com.example/v1"),
    ]
    assert len({default, *others}) == 1 + len(others)
    assert fingerprint(base_url="http://GATEWAY:4000/") == fingerprint(base_url="http://gateway:4000")
    assert rf.OpenAIEmbedder().name == "openai:text-embedding-3-small"


def test_known_dims() -> None:
    dims = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
    for model, dim in dims.items():
        assert rf.OpenAIEmbedder(model).dim == dim


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": ""},
        {"dim": 0},
        {"dim": 1537},
        {"model": "text-embedding-ada-002", "dim": 512},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"max_retries": -1},
        {"batch_size": 0},
        {"batch_size": 2049},
        {"max_concurrency": 0},
        {"max_chars": 0},
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://localhost"},
        {"base_url": "http://"},
        {"base_url": "http://localhost:99999"},
        {"base_url": "http://[::1"},
        {"base_url": "http://localhost/v1?key=1"},
        {"base_url": "http://localhost/v1#a"},
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(rf.InvalidArgumentError):
        rf.OpenAIEmbedder(**arguments)


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(rf.InvalidArgumentError, match="api_key") as caught:
        rf.OpenAIEmbedder(base_url=f"https://user:{KEY}@localhost/v1")
    assert KEY not in told(caught.value)


# --- threads, tasks, processes


def test_requests_run_at_once_but_not_too_many(server: FakeOpenAI) -> None:
    server.otherwise = Reply(delay_s=0.05)
    start = time.monotonic()
    assert np.array_equal(
        embed(connect(server, batch_size=1, max_concurrency=5), TEXTS, "async"), vectors_for(TEXTS, 8)
    )
    assert server.most_busy <= 5
    assert server.most_busy >= 3
    assert time.monotonic() - start < 5


def test_the_event_loop_goes_on(server: FakeOpenAI) -> None:
    server.otherwise = Reply(delay_s=0.3)

    async def run() -> int:
        beats = 0
        async with connect(server) as embedder:
            task = asyncio.ensure_future(embedder.aembed(["a"]))
            while not task.done():
                await asyncio.sleep(0.01)
                beats += 1
            await task
        return beats

    assert asyncio.run(run()) >= 10


def test_one_failed_request_ends_the_others(server: FakeOpenAI) -> None:
    server.script.append(Reply(400, {"error": {"message": "no"}}))
    server.otherwise = Reply(delay_s=0.2)

    async def run() -> int:
        async with connect(server, batch_size=1, max_concurrency=2) as embedder:
            with pytest.raises(rf.EmbedderUnavailableError, match="400"):
                await embedder.aembed(TEXTS)
            return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
    assert len(server.requests) < len(TEXTS)


def test_a_cancelled_call_leaves_a_working_embedder(server: FakeOpenAI) -> None:
    server.script.append(Reply(delay_s=0.3))

    async def run() -> np.ndarray:
        async with connect(server) as embedder:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(embedder.aembed(["a"]), 0.1)
            return await embedder.aembed(["b"])

    assert np.array_equal(asyncio.run(run()), vectors_for(["b"], 8))


def test_one_embedder_serves_several_event_loops_and_threads(server: FakeOpenAI) -> None:
    embedder = connect(server, batch_size=3)
    for _ in range(2):
        assert np.array_equal(embed(embedder, TEXTS, "async"), vectors_for(TEXTS, 8))
    with embedder, concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda text: embedder.embed([text]), TEXTS * 3))
    assert np.array_equal(np.concatenate(answers), vectors_for(TEXTS * 3, 8))


def test_tasks_share_the_loops_connections(server: FakeOpenAI) -> None:
    async def run() -> list[np.ndarray]:
        async with connect(server) as embedder:
            return await asyncio.gather(*(embedder.aembed([text]) for text in TEXTS))

    assert np.array_equal(np.concatenate(asyncio.run(run())), vectors_for(TEXTS, 8))


def test_a_closed_embedder_opens_again(server: FakeOpenAI) -> None:
    embedder = connect(server)
    embedder.close()
    for _ in range(2):
        assert np.array_equal(embed(embedder, ["a"], "sync"), vectors_for(["a"], 8))


def test_a_given_http_client_is_used_and_stays_open(server: FakeOpenAI) -> None:
    openai = pytest.importorskip("openai")
    http = openai.DefaultHttpxClient(headers={"x-team": "routing"})
    embed(connect(server, http_client=http), ["a"], "sync")
    assert server.requests[0].headers["x-team"] == "routing"
    assert not http.is_closed
    http.close()


def test_a_forked_child_opens_its_own_connections(server: FakeOpenAI) -> None:
    program = f"""
import os, numpy as np, routellm_fast as rf
embedder = rf.OpenAIEmbedder("m", base_url={server.url!r}, dim=8)
parent = embedder.embed(["a"])
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(embedder.embed(["a"]), parent) else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(embedder.embed(["a"]), parent)
embedder.close()
"""
    run = run_python("-W", "ignore::DeprecationWarning", "-c", program)
    assert run.returncode == 0, run.stderr
    assert len(server.requests) == 3


def test_building_needs_no_package_no_key_and_no_socket() -> None:
    program = """
import socket, sys
def forbidden(*args, **kwargs): raise AssertionError("a socket")
socket.socket.connect = socket.getaddrinfo = forbidden
import routellm_fast as rf
rf.OpenAIEmbedder().fingerprint
assert not {"openai", "httpx", "httpx2", "ssl"} & set(sys.modules), sorted(sys.modules)
"""
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(rf.MissingExtraError, match=r"pip install .\.\[openai\]"):
        embed(rf.OpenAIEmbedder(api_key=KEY), ["a"], way)


def test_the_fake_servers_vectors_depend_on_the_text_alone() -> None:
    assert np.array_equal(vector_for("a", 4), vector_for("a", 4))
    assert not np.array_equal(vector_for("a", 4), vector_for("b", 4))
