"""A real Triton server with the repositories that are exported, asked by the client and by tritonclient."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.errors import (
    InvalidArgumentError,
    InvalidEmbeddingError,
    TritonRefusedError,
    TritonUnavailableError,
)
from routellm_fast.serving.triton import AsyncTritonRouter, TritonRouter, main
from tests.support import triton_server
from tests.support.builders import bert_router, mf_router, static_embedder
from tests.support.sw_builders import battle_texts, sw_router

pytest.importorskip("tritonclient.grpc")
pytest.importorskip("tritonclient.http")
pytest.importorskip("onnxruntime")

from routellm_fast.export import export_triton
from tritonclient.utils import InferenceServerException

PROMPTS = ["", "prove the", "hello ? a b c", "unknown words only", "write {1} " * 40, "é\ud800 \0 x", *battle_texts(30)]
THRESHOLDS = (0.0, 0.3, 0.7, 1.0)
CLIENTS = 32

pytestmark = pytest.mark.slow


def with_stand_in(repository: Path, name: str) -> None:
    """Replace the onnxruntime backend, which the test server lacks, by a Python model that runs the same graph."""
    folder = repository / f"{name}_graph"
    config = folder / "config.pbtxt"
    text = config.read_text()
    # The Python backend knows no shapes: what is (batch, 1) outside is (batch, 1) inside.
    for old, new in (
        ('platform: "onnxruntime_onnx"\n', ""),
        ('backend: "onnxruntime"', 'backend: "python"'),
        ("  reshape {\n  }\n", ""),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    shutil.copy(Path(__file__).parent / "stand_in_graph.py", folder / "1" / "model.py")


@pytest.fixture(scope="module")
def mf() -> rf.Router:
    return mf_router()


@pytest.fixture(scope="module")
def sw() -> rf.Router:
    router = sw_router("int8", embedder=static_embedder(surface_features=()))
    return router.with_calibration(mf_router().calibration)


@pytest.fixture(scope="module")
def bert() -> rf.Router:
    return bert_router().with_calibration(mf_router().calibration)


# By name on the server: which router, and how it is exported.
MODELS = {
    "router": ("mf", {"mode": "python"}),
    "patient": ("mf", {"mode": "python", "max_queue_delay_us": 300_000, "preferred_batch_sizes": (CLIENTS,)}),
    "sw": ("sw", {"mode": "python"}),
    "bert": ("bert", {"mode": "python"}),
    "ensemble": ("mf", {"mode": "onnx"}),
    "ensemble_of_vectors": ("mf", {"mode": "onnx", "inputs": "embeddings"}),
    "ensemble_of_bert": ("bert", {"mode": "onnx"}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[triton_server.Server]:
    """One server with all models."""
    triton_server.environment()
    home = tmp_path_factory.mktemp("triton")
    repository = home / "repository"
    repository.mkdir()
    for name, (kind, settings) in MODELS.items():
        if not (home / kind).exists():
            request.getfixturevalue(kind).save(home / kind)
        out = home / f"out-{name}"
        export_triton(home / kind, out, name=name, max_batch_size=32, **settings)
        if settings["mode"] == "onnx":
            with_stand_in(out, name)
        for model in [path for path in out.iterdir() if path.is_dir()]:
            model.rename(repository / model.name)
    with triton_server.start(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: triton_server.Server) -> str:
    return str(getattr(server, f"{request.param}_url"))


def post(server: triton_server.Server, model: str, inputs: list[dict[str, Any]]) -> tuple[int, Any]:
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"{server.http_url}/v2/models/{model}/infer", body)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("model", ["router", "sw", "bert"])
def test_results_are_those_of_the_process_itself_bitwise(url: str, model: str, request: pytest.FixtureRequest) -> None:
    local = request.getfixturevalue(MODELS[model][0])
    with TritonRouter(url, model=model) as router:
        assert router.model_pair == local.model_pair
        for prompt in PROMPTS:
            assert router.win_rate(prompt) == local.win_rate(prompt)
        many = PROMPTS * 5  # several requests: more than a batch holds
        np.testing.assert_array_equal(router.win_rates(many), local.win_rates(many))
        for threshold in (*THRESHOLDS, *local.win_rates(PROMPTS).tolist()):
            found = [router.route_batch(PROMPTS, threshold, no_text=no_text) for no_text in ("strong", "score")]
            expected = [local.route_batch(PROMPTS, threshold, no_text=no_text) for no_text in ("strong", "score")]
            assert [row[:4] for rows in found for row in rows] == [row[:4] for rows in expected for row in rows]
        assert router.win_rates([]).shape == (0,)
        assert router.route_batch([]) == []
        if local.calibration is not None:
            assert router.threshold_for(0.3) == local.threshold_for(0.3)
        assert router.counts.failures == router.counts.retries == router.counts.fallbacks == 0
        if model == "bert":
            return
        embeddings = np.random.default_rng(1).normal(size=(100, local.dim)).astype(np.float32)
        expected = local.win_rates_from_embeddings(embeddings)
        np.testing.assert_array_equal(router.win_rates_from_embeddings(embeddings), expected)
        assert router.win_rates_from_embeddings(embeddings[:0]).shape == (0,)


@pytest.mark.parametrize("model", ["ensemble", "ensemble_of_vectors", "ensemble_of_bert"])
def test_an_ensemble_agrees_with_the_router(url: str, model: str, request: pytest.FixtureRequest) -> None:
    """Within what the graph's order of sums changes; the decision is of the win rate that it reports."""
    local = request.getfixturevalue(MODELS[model][0])
    with TritonRouter(url, model=model) as router:
        found = router.win_rates(PROMPTS)
        np.testing.assert_allclose(found, local.win_rates(PROMPTS), rtol=0, atol=1e-6)
        for threshold in THRESHOLDS:
            decisions = router.route_batch(PROMPTS, threshold, no_text="score")
            for decision, win_rate in zip(decisions, found, strict=True):
                assert decision.is_strong == (decision.win_rate >= threshold)
                assert decision.model == local.model_pair[0 if decision.is_strong else 1]
                assert decision.win_rate == pytest.approx(float(win_rate), abs=1e-6)
        assert router.is_healthy()
        embeddings = np.random.default_rng(5).normal(size=(40, 9)).astype(np.float32)
        if model == "ensemble_of_vectors":
            vectors = router.win_rates_from_embeddings(embeddings)
            np.testing.assert_allclose(vectors, local.win_rates_from_embeddings(embeddings), rtol=0, atol=1e-6)
        else:
            with pytest.raises(InvalidArgumentError, match="no embeddings"):
                router.win_rates_from_embeddings(embeddings)


def test_an_ensemble_of_a_transformer_scores_one_prompt_as_the_router_bitwise(url: str, bert: rf.Router) -> None:
    """A prompt alone is padded to the same length as in the process itself, and runs in the same graph."""
    with TritonRouter(url, model="ensemble_of_bert") as router:
        for prompt in PROMPTS:
            assert router.win_rate(prompt) == bert.win_rate(prompt)


def test_shared_memory_gives_the_same(url: str, mf: rf.Router) -> None:
    embeddings = np.random.default_rng(2).normal(size=(200, 9)).astype(np.float32)
    with TritonRouter(url, shared_memory_from_bytes=1) as router:
        found = router.win_rates_from_embeddings(embeddings)
    np.testing.assert_array_equal(found, mf.win_rates_from_embeddings(embeddings))
    assert not list(Path("/dev/shm").glob("routellm_fast_*"))


def test_closing_beside_calls_ends_each_by_an_answer_or_by_name(url: str, mf: rf.Router) -> None:
    expected = mf.win_rates(PROMPTS).tolist()
    for number in range(8):
        router = TritonRouter(url, timeout_s=300)
        ends: list[str] = []

        def ask(router: TritonRouter = router, ends: list[str] = ends) -> None:
            try:
                while router.win_rates(PROMPTS).tolist() == expected:
                    pass
                ends.append("another answer")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                ends.append(type(error).__name__)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.01 * number)
        router.close()
        for thread in threads:
            thread.join(60)
        assert ends == ["TritonClosedError"] * 6


def test_shared_memory_that_the_server_forgot_is_no_loss(
    url: str, mf: rf.Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claims(self: object, replica: object) -> bool:
        return True

    monkeypatch.setattr("routellm_fast.serving._triton_core._Region.is_known_to", claims)
    embeddings = np.random.default_rng(2).normal(size=(200, 9)).astype(np.float32)
    with TritonRouter(url, shared_memory_from_bytes=1) as router:
        found = router.win_rates_from_embeddings(embeddings)
        assert router.counts.retries == 0
    np.testing.assert_array_equal(found, mf.win_rates_from_embeddings(embeddings))


def test_32_clients_at_once_each_get_their_own_answer(server: triton_server.Server, url: str, mf: rf.Router) -> None:
    expected = mf.win_rates(PROMPTS)
    before = executions(server, "router")
    with TritonRouter(url) as router, ThreadPoolExecutor(CLIENTS) as pool:
        order = np.random.default_rng(3).permutation(np.arange(len(PROMPTS) * 20) % len(PROMPTS))
        found = list(pool.map(lambda index: router.win_rate(PROMPTS[index]), order))
    np.testing.assert_array_equal(np.float32(found), expected[order])
    assert executions(server, "router") - before < len(order), "nothing was batched"


def executions(server: triton_server.Server, model: str) -> int:
    lines = [
        line for line in server.metrics().splitlines() if line.startswith(f'nv_inference_exec_count{{model="{model}"')
    ]
    return int(lines[0].split()[-1])


def test_asyncio(url: str, mf: rf.Router) -> None:
    async def ask() -> tuple[list[float], Any, bool, Any]:
        async with AsyncTritonRouter(url) as router:
            answers = await asyncio.gather(*(router.win_rate(prompt) for prompt in PROMPTS))
            return answers, await router.route(PROMPTS[1], 0.4), await router.is_healthy(), await router.model_pair()

    answers, decision, is_healthy, pair = asyncio.run(ask())
    np.testing.assert_array_equal(np.float32(answers), mf.win_rates(PROMPTS))
    assert (decision, is_healthy, pair) == (mf.route(PROMPTS[1], 0.4), True, mf.model_pair)


@pytest.mark.parametrize("model", ["router", "sw", "ensemble"])
def test_a_bad_request_fails_alone_in_a_batch_of_good_ones(
    server: triton_server.Server, model: str, request: pytest.FixtureRequest
) -> None:
    local = request.getfixturevalue("sw" if model == "sw" else "mf")
    text = {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "data": ["prove the"]}
    threshold = {"name": "THRESHOLD", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}
    bad: list[tuple[list[dict[str, Any]], str]] = [
        ([{**text, "datatype": "FP32", "data": [1.0]}], "data-type"),
        ([{**text, "shape": [1, 2], "data": ["a", "b"]}], "shape"),
        ([{**text, "shape": [2, 1], "data": ["a", "b"]}, threshold], ""),
        ([text, {**threshold, "data": [7.0]}], "THRESHOLD"),
        ([threshold], ""),
    ]
    if model != "ensemble":
        vector = {"name": "EMBEDDING", "shape": [1, local.dim], "datatype": "FP32", "data": [1.0] * local.dim}
        bad += [
            ([text, vector], "either PROMPT or EMBEDDING"),
            ([{**vector, "shape": [1, 3], "data": [1.0] * 3}], "shape"),
        ]
    expected = local.win_rate("prove the")

    def ask(number: int) -> None:
        if number % 3:
            status, answer = post(server, model, [text])
            assert status == 200, answer
            (win_rate,) = next(entry for entry in answer["outputs"] if entry["name"] == "WIN_RATE")["data"]
            assert win_rate == pytest.approx(expected, abs=0 if model != "ensemble" else 1e-6)
        else:
            inputs, words = bad[number // 3 % len(bad)]
            status, answer = post(server, model, inputs)
            assert status in (400, 500), (status, answer)
            assert status == 400 or not words, answer
            assert words in answer["error"], answer

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(120)))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_values_that_no_type_forbids_fail_alone_in_one_batch(
    server: triton_server.Server, protocol: str, mf: rf.Router
) -> None:
    """By tritonclient itself: this package's client would not send them."""
    api = importlib.import_module(f"tritonclient.{protocol}")
    port = {"http": server.http_port, "grpc": server.grpc_port}[protocol]
    nan, infinite, sound = (np.ones((1, 9), np.float32) for _ in range(3))
    nan[0, 4], infinite[0, 7] = np.nan, np.inf
    long = "prove the hello " * (10 << 16)
    expected = {text: mf.win_rate(text) for text in ("caf\u00e9", "prove the", long)}
    of_vector = float(mf.win_rates_from_embeddings(sound)[0])
    vectors: list[tuple[Any, float | str]] = [
        (nan, "row 0, column 4 is nan"),
        (infinite, "row 0, column 7 is inf"),
        (sound, of_vector),
    ]
    prompts: list[tuple[Any, float | str]] = [
        (b"caf\xe9", mf.win_rate("caf\ufffd")),
        *((text.encode(), win_rate) for text, win_rate in expected.items()),
    ]
    barrier = threading.Barrier(CLIENTS)

    def ask(case: tuple[Any, float | str]) -> None:
        value, answer = case
        values = np.array([[value]], dtype=object) if isinstance(value, bytes) else value
        is_text = values.dtype == object
        entry = api.InferInput("PROMPT" if is_text else "EMBEDDING", list(values.shape), "BYTES" if is_text else "FP32")
        entry.set_data_from_numpy(values)
        client = api.InferenceServerClient(f"127.0.0.1:{port}")
        assert client.is_server_live()  # connects
        barrier.wait(timeout=60)
        if isinstance(answer, str):
            with pytest.raises(InferenceServerException, match=answer):
                client.infer("patient", [entry])
        else:
            found = client.infer("patient", [entry])
            assert found.as_numpy("WIN_RATE").tolist() == [[answer]]
            assert found.as_numpy("MODEL").shape == found.as_numpy("IS_STRONG").shape == (1, 1)
        client.close()

    # Apart: Triton puts together what has the same inputs.
    for cases in (vectors, prompts):
        before = executions(server, "patient")
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, (cases[number % len(cases)] for number in range(CLIENTS))))
        sound_ones = sum(not isinstance(cases[number % len(cases)][1], str) for number in range(CLIENTS))
        # Fewer batches than requests that came out well: these met others, the bad ones among them.
        assert executions(server, "patient") - before < sound_ones


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's, hidden by default
def test_a_prompt_of_ten_megabytes_is_answered(url: str, mf: rf.Router) -> None:
    prompt = "prove the hello " * (10 << 16)
    assert len(prompt) >= 10 << 20
    with TritonRouter(url, timeout_s=60) as router:
        assert router.win_rate(prompt) == mf.win_rate(prompt)
        assert router.win_rates([prompt, "a", prompt]).tolist() == mf.win_rates([prompt, "a", prompt]).tolist()


def test_the_client_refuses_what_makes_no_sense(url: str) -> None:
    with TritonRouter(url) as router:
        with pytest.raises(TypeError):
            router.win_rates("one str")
        with pytest.raises(rf.InvalidThresholdError):
            router.route("a", 1.5)
        with pytest.raises(InvalidEmbeddingError, match=r"\(n, 9\)"):
            router.win_rates_from_embeddings(np.ones((2, 3), np.float32))
        vectors = np.ones((2, 9), np.float32)
        vectors[1, 2] = np.nan
        with pytest.raises(InvalidEmbeddingError, match="row 1, column 2 is nan"):
            router.win_rates_from_embeddings(vectors)
        assert router.win_rate("a") > 0
    with (
        TritonRouter(url, model="nobody", timeout_s=5) as router,
        pytest.raises(TritonUnavailableError, match="nobody"),
    ):
        router.win_rate("a")
    with TritonRouter(url, model="ensemble_decide") as router, pytest.raises(rf.RouteLLMError, match="is no router"):
        router.win_rate("a")


def test_check_from_the_command_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", url]) == 0
    assert "answers" in capsys.readouterr().out
    assert main(["--check", url, "--model", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().out


@pytest.fixture
def own(tmp_path: Path, mf: rf.Router) -> Iterator[Callable[..., triton_server.Server]]:
    """Servers that a test may end: python mode, one router."""
    triton_server.environment()
    mf.save(tmp_path / "router")
    export_triton(tmp_path / "router", tmp_path / "repository", response_cache=True)
    servers: list[triton_server.Server] = []

    def start(**settings: Any) -> triton_server.Server:
        servers.append(triton_server.start(tmp_path / "repository", **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def test_a_killed_model_is_found_by_an_inference_and_another_replica_answers(
    own: Callable[..., triton_server.Server], mf: rf.Router
) -> None:
    sick, sound = own(), own()
    # Of both, also with a response cache: the probe is never the same twice.
    with TritonRouter([sick.http_url, sound.grpc_url], cool_down_s=0.2) as router:
        assert router.health() == {sick.http_url: "", sound.grpc_url: ""}
        assert sick.kill_stubs("router") == 1
        deadline = time.monotonic() + 30
        while router.health()[sick.http_url] == "" and time.monotonic() < deadline:
            time.sleep(0.1)
        found = router.health()
        assert found[sound.grpc_url] == ""
        assert "not healthy" in found[sick.http_url] or "no answer" in found[sick.http_url]
        assert router.is_healthy()
        # The server goes on, and says that it is ready.
        with urllib.request.urlopen(f"{sick.http_url}/v2/models/router/ready", timeout=10) as reply:
            assert reply.status == 200
        for prompt in PROMPTS:
            assert router.win_rate(prompt) == mf.win_rate(prompt)
        assert router.counts.retries > 0
        assert router.counts.failures == router.counts.fallbacks == 0
    with TritonRouter(sick.http_url) as router:
        assert not router.is_healthy()
        assert main(["--check", sick.http_url]) == 1


def test_the_client_survives_a_restart(own: Callable[..., triton_server.Server], mf: rf.Router) -> None:
    server = own()
    for url in (server.http_url, server.grpc_url):
        with TritonRouter(url, fallback=mf, timeout_s=2, cool_down_s=0.1) as router:
            expected = [mf.route(prompt, 0.4) for prompt in PROMPTS]
            assert [router.route(prompt, 0.4) for prompt in PROMPTS] == expected
            assert router.counts.fallbacks == 0
            server.stop(kill=True)
            assert [router.route(prompt, 0.4) for prompt in PROMPTS] == expected
            assert router.counts.fallbacks == len(PROMPTS)
            server.restart()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                before = router.counts.fallbacks
                assert router.route("prove the", 0.4) == mf.route("prove the", 0.4)
                if router.counts.fallbacks == before:
                    break
                time.sleep(0.1)
            assert router.counts.fallbacks == before, "the client did not come back"
            assert router.counts.failures == 0


def test_a_reload_under_load_fails_no_request(
    own: Callable[..., triton_server.Server], mf: rf.Router, tmp_path: Path
) -> None:
    server = own(explicit=["router"])
    expected = {prompt: mf.win_rate(prompt) for prompt in PROMPTS}
    stop = threading.Event()
    wrong: list[object] = []
    answered = [0]

    def ask(router: TritonRouter) -> None:
        number = 0
        while not stop.is_set():
            prompt = PROMPTS[number % len(PROMPTS)]
            number += 1
            try:
                if router.win_rate(prompt) != expected[prompt]:
                    wrong.append(prompt)
            except rf.RouteLLMError as error:
                wrong.append(error)
            answered[0] += 1

    # One try: a failure would not be hidden by another.
    with TritonRouter(server.grpc_url, tries=1, timeout_s=30) as router:
        threads = [threading.Thread(target=ask, args=(router,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            before = answered[0]
            # Triton loads again what has changed only.
            (tmp_path / "repository" / "router" / "1" / "model.py").touch()
            load = urllib.request.Request(f"{server.http_url}/v2/repository/models/router/load", b"{}")
            with urllib.request.urlopen(load, timeout=60) as reply:
                assert reply.status == 200
            while answered[0] < before + 50 and not wrong:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert server.log().count("successfully loaded 'router'") == 3


def test_the_response_cache_answers_equal_requests(own: Callable[..., triton_server.Server], mf: rf.Router) -> None:
    server = own(options=["--cache-config=local,size=1048576"])
    with TritonRouter(server.grpc_url) as router:
        assert [router.win_rate("prove the") for _ in range(3)] == [mf.win_rate("prove the")] * 3
    hits = [line for line in server.metrics().splitlines() if line.startswith("nv_cache_num_hits_per_model")]
    assert int(hits[0].split()[-1]) == 2


def test_numpy_2_beside_a_backend_for_numpy_1_is_refused_by_name(
    own: Callable[..., triton_server.Server], tmp_path: Path
) -> None:
    """Its strings would end the process, and its results would be empty."""
    if int(np.__version__.partition(".")[0]) < 2:
        pytest.skip("needs numpy 2 in the environment of the tests")
    import os
    import sys

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with pytest.raises(AssertionError, match="has a Python backend for numpy 1, but numpy 2"):
        own(variables={"PATH": path})


def test_refused_requests_are_not_tried_again(server: triton_server.Server) -> None:
    with TritonRouter(server.http_url, model="router") as router:
        router.win_rate("a")
        # A threshold that only the server checks: the client's own check is passed by.
        with pytest.raises(TritonRefusedError, match="THRESHOLD"):
            router._run(lambda inner: inner._core.decisions(["a"], 2.0))
        assert router.counts.retries == 0
