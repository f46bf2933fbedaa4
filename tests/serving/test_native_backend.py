"""The C++ backend in a real Triton Inference Server, beside the same routers in this process."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.serving import triton_backend_directory
from tests.support import triton_server
from tests.support.builders import mf_router
from tests.support.manifests import editable_manifest
from tests.support.sw_builders import sw_router

CALIBRATION = rf.Calibration("test prompts", 3, ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)))
ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts" / "v1"
PROMPTS = ["Prove the infinity of primes.", "", "hello", "écrits { 1 }", "人工智能 🙂", "a b c " * 300, "null \0 byte"]
KINDS = ("mf", "sw-float32", "sw-int8")
THRESHOLDS = [0.0, 0.3, 0.5, 0.7, 1.0, 0.5, 0.25]
OUTPUTS = ("WIN_RATE", "IS_STRONG", "MODEL")
PROTOCOLS = ("http", "grpc")

BUSY = """
input [{ name: "PROMPT" data_type: TYPE_STRING dims: [1] optional: true },
       { name: "EMBEDDING" data_type: TYPE_FP32 dims: [-1] optional: true },
       { name: "THRESHOLD" data_type: TYPE_FP32 dims: [1] optional: true }]
max_batch_size: 128
instance_group [{ kind: KIND_CPU count: 3 }]
dynamic_batching { max_queue_delay_microseconds: 50000 }
parameters [{ key: "threads" value { string_value: "2" } },
            { key: "strong_share" value { string_value: "0.25" } },
            { key: "strong_model" value { string_value: "größer" } },
            { key: "weak_model" value { string_value: "kleiner" } }]
"""
PLAIN = """
input [{ name: "PROMPT" data_type: TYPE_STRING dims: [1] }]
parameters [{ key: "router_directory" value { string_value: "../../mf/1/router" } },
            { key: "default_threshold" value { string_value: "0.125" } }]
"""


@pytest.fixture(scope="module")
def routers() -> dict[str, Any]:
    """The routers in this process, by the names of their models."""
    return {
        "mf": rf.load_router(),
        "sw-float32": sw_router("float32", count=400).with_calibration(CALIBRATION),
        "sw-int8": sw_router("int8", count=400).with_calibration(CALIBRATION),
        "numbers": rf.load_router(ARTIFACTS / "mf-none"),
    }


def add_model(repository: Path, name: str, router: Any = None, config: str = "") -> Path:
    """Write a model; `router` is one in memory, a directory, or None for none. Returns its version folder."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "routellm"\n{config}', encoding="utf-8")
    if isinstance(router, Path):
        shutil.copytree(router, folder / "router")
    elif router is not None:
        router.save(folder / "router")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, routers: dict[str, Any]) -> Iterator[triton_server.Server]:
    triton_server.environment()  # skips before any work
    repository = tmp_path_factory.mktemp("repository")
    for name, router in routers.items():
        add_model(repository, name, router)
    add_model(repository, "busy", routers["mf"], BUSY)
    add_model(repository, "plain", config=PLAIN)
    add_model(repository, "cached", routers["mf"], "response_cache { enable: true }")
    with triton_server.start(
        repository,
        backends={"routellm": triton_backend_directory() / "routellm"},
        explicit=[*routers, "busy", "plain", "cached"],
        options=["--cache-config=local,size=4194304"],
    ) as running:
        running.repository = repository  # type: ignore[attr-defined]
        yield running
        assert running.is_running(), f"the server ended by itself:\n{running.log()[-20_000:]}"


class Client:
    """Asks one server by one protocol with NVIDIA's own client. Not for several threads."""

    def __init__(self, server: triton_server.Server, protocol: str) -> None:
        self.module: Any = pytest.importorskip(f"tritonclient.{protocol}")
        port = server.http_port if protocol == "http" else server.grpc_port
        self.client = self.module.InferenceServerClient(f"127.0.0.1:{port}")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, model: str, outputs: Sequence[str] = OUTPUTS, **inputs: Any) -> dict[str, np.ndarray]:
        """Send inputs, arrays by name, and return the outputs by name."""
        types = {"float32": "FP32", "float64": "FP64", "object": "BYTES"}
        sent = []
        for name, values in inputs.items():
            sent.append(self.module.InferInput(name, values.shape, types[values.dtype.name]))
            sent[-1].set_data_from_numpy(values)
        wanted = [self.module.InferRequestedOutput(name) for name in outputs]
        reply = self.client.infer(model, sent, outputs=wanted)
        return {name: reply.as_numpy(name) for name in outputs}

    def refusal(self, model: str, **inputs: Any) -> str:
        """Return why a request is refused."""
        from tritonclient.utils import InferenceServerException

        with pytest.raises(InferenceServerException) as caught:
            self.ask(model, **inputs)
        return str(caught.value)


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, server: triton_server.Server) -> Iterator[Client]:
    with Client(server, request.param) as made:
        yield made


def texts(prompts: Sequence[str | bytes]) -> np.ndarray:
    values = [prompt.encode() if isinstance(prompt, str) else prompt for prompt in prompts]
    return np.array(values, dtype=np.object_).reshape(-1, 1)


def column(values: Sequence[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def get_json(server: triton_server.Server, path: str) -> Any:
    with urllib.request.urlopen(f"{server.http_url}/v2/{path}", timeout=30) as reply:
        return json.load(reply)


def statistics(server: triton_server.Server, model: str) -> dict[str, Any]:
    return get_json(server, f"models/{model}/stats")["model_stats"][0]


def control(server: triton_server.Server, model: str, what: str) -> str:
    """Load or unload a model; return the server's error, or "" where it did."""
    url = f"{server.http_url}/v2/repository/models/{model}/{what}"
    try:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=60).close()
    except urllib.error.HTTPError as error:
        return json.load(error)["error"]
    return ""


def check_decisions(found: dict[str, np.ndarray], decisions: Sequence[rf.Decision]) -> None:
    expected = np.array([decision.win_rate for decision in decisions], dtype=np.float32)
    assert found["WIN_RATE"].dtype == np.float32
    assert found["WIN_RATE"].shape == (len(decisions), 1)
    assert found["WIN_RATE"].tobytes() == expected.tobytes()
    assert found["IS_STRONG"].dtype == np.bool_
    assert found["IS_STRONG"][:, 0].tolist() == [decision.is_strong for decision in decisions]
    assert [name.decode() for name in found["MODEL"][:, 0]] == [decision.model for decision in decisions]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_decided_as_in_this_process(client: Client, routers: dict[str, Any], kind: str) -> None:
    router = routers[kind]
    check_decisions(client.ask(kind, PROMPT=texts(PROMPTS)), router.route_batch(PROMPTS, no_text="score"))
    for prompt in PROMPTS:
        check_decisions(client.ask(kind, PROMPT=texts([prompt])), [router.route(prompt, no_text="score")])
    found = client.ask(kind, PROMPT=texts(PROMPTS), THRESHOLD=column(THRESHOLDS))
    narrow = [float(np.float32(threshold)) for threshold in THRESHOLDS]
    check_decisions(found, [router.route(*pair, no_text="score") for pair in zip(PROMPTS, narrow, strict=True)])
    # A threshold that is a win rate: it goes to the strong model.
    win_rates = router.win_rates(PROMPTS)
    found = client.ask(kind, PROMPT=texts(PROMPTS), THRESHOLD=column(win_rates))
    check_decisions(
        found, [router.route(p, float(w), no_text="score") for p, w in zip(PROMPTS, win_rates, strict=True)]
    )


@pytest.mark.parametrize("kind", [*KINDS, "numbers"])
def test_embeddings_are_scored_as_in_this_process(client: Client, routers: dict[str, Any], kind: str) -> None:
    router = routers[kind]
    embeddings = np.random.default_rng(5).normal(size=(40, router.dim)).astype(np.float32)
    expected = router.win_rates_from_embeddings(embeddings)
    found = client.ask(kind, outputs=["WIN_RATE"], EMBEDDING=embeddings)
    assert list(found) == ["WIN_RATE"]
    assert found["WIN_RATE"][:, 0].tobytes() == expected.tobytes()
    for row in range(3):
        one = client.ask(kind, outputs=["WIN_RATE"], EMBEDDING=embeddings[row : row + 1])
        assert one["WIN_RATE"][0, 0] == expected[row]

    exact = getattr(router, "exact_win_rates_from_embeddings", router.win_rates_from_embeddings)(embeddings)
    thresholds = np.linspace(0.05, 0.95, 40, dtype=np.float32)
    found = client.ask(kind, EMBEDDING=embeddings, THRESHOLD=column(thresholds))
    assert found["IS_STRONG"][:, 0].tolist() == (exact >= thresholds).tolist()
    pair = router.model_pair
    assert [name.decode() for name in found["MODEL"][:, 0]] == [
        pair.strong if is_strong else pair.weak for is_strong in found["IS_STRONG"][:, 0]
    ]


def test_only_the_outputs_that_are_asked_for_come_back(client: Client, routers: dict[str, Any]) -> None:
    whole = client.ask("mf", PROMPT=texts(PROMPTS))
    for name in OUTPUTS:
        found = client.ask("mf", outputs=[name], PROMPT=texts(PROMPTS))
        assert found[name].tolist() == whole[name].tolist()


def test_a_long_prompt_is_read_whole(client: Client, routers: dict[str, Any]) -> None:
    prompt = "Prove it, please! " * 600_000  # 10.8 MB
    check_decisions(client.ask("mf", PROMPT=texts([prompt])), [routers["mf"].route(prompt, no_text="score")])
    check_decisions(
        client.ask("sw-int8", PROMPT=texts(["a", prompt])),
        routers["sw-int8"].route_batch(["a", prompt], no_text="score"),
    )


def test_what_is_no_utf8_reads_as_replacement_characters(client: Client, routers: dict[str, Any]) -> None:
    broken = [b"prove \xff the", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x99", b"a\xe4\xba b", bytes(range(256))]
    readable = [prompt.decode("utf-8", "replace") for prompt in broken]
    check_decisions(client.ask("mf", PROMPT=texts(broken)), routers["mf"].route_batch(readable, no_text="score"))


def test_a_bad_request_is_told_what_is_wrong_with_it(client: Client, routers: dict[str, Any]) -> None:
    dim = routers["mf"].dim
    good = np.ones((2, dim), np.float32)
    bad = good.copy()
    bad[1, 3] = np.nan
    assert "'THRESHOLD' is 1.500000 in row 0" in client.refusal("mf", PROMPT=texts(["a"]), THRESHOLD=column([1.5]))
    assert "'THRESHOLD' is nan" in client.refusal("mf", PROMPT=texts(["a"]), THRESHOLD=column([np.nan]))
    assert "nan in row 1, column 3: all must be finite" in client.refusal("mf", EMBEDDING=bad)
    assert "both PROMPT and EMBEDDING" in client.refusal("mf", PROMPT=texts(["a", "b"]), EMBEDDING=good)
    assert "neither PROMPT nor EMBEDDING" in client.refusal("mf", THRESHOLD=column([0.5]))
    assert "has shape [2," in client.refusal("busy", EMBEDDING=np.ones((2, dim + 1), np.float32))
    zeros = np.zeros((1, routers["sw-int8"].dim), np.float32)
    assert "embedding 0 is all zeros" in client.refusal("sw-int8", EMBEDDING=zeros)
    # These the server itself refuses; what matters is that it does, and with a reason.
    assert "EMBEDDING" in client.refusal("mf", EMBEDDING=np.ones((1, dim), np.float64))
    assert "EMBEDDING" in client.refusal("numbers", THRESHOLD=column([0.5]))
    assert "PROMPT" in client.refusal("numbers", PROMPT=texts(["a"]))


def test_bad_requests_of_a_dynamic_batch_leave_the_others_alone(
    server: triton_server.Server, routers: dict[str, Any]
) -> None:
    strong_share = routers["mf"].threshold_for(0.25)
    expected = [routers["mf"].route(prompt, strong_share, no_text="score") for prompt in PROMPTS]
    before = statistics(server, "busy")
    barrier = threading.Barrier(32)

    def ask(number: int) -> str:
        protocol = PROTOCOLS[number % 2]
        prompt = PROMPTS[number % len(PROMPTS)]
        with Client(server, protocol) as client:
            barrier.wait(timeout=30)
            if number % 3 == 0:
                return client.refusal("busy", PROMPT=texts([prompt]), THRESHOLD=column([2.0]))
            decision = expected[number % len(PROMPTS)]
            found = client.ask("busy", PROMPT=texts([prompt]), THRESHOLD=column([np.float32(0.5)]))
            assert found["WIN_RATE"][0, 0] == np.float32(decision.win_rate)
            assert bool(found["IS_STRONG"][0, 0]) is (decision.win_rate >= 0.5)
            assert found["MODEL"][0, 0].decode() == ("größer" if decision.win_rate >= 0.5 else "kleiner")
            return ""

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    assert [bool(answer) for answer in answers] == [number % 3 == 0 for number in range(32)]
    assert all("'THRESHOLD' is 2.000000" in answer for answer in answers if answer)
    after = statistics(server, "busy")
    assert after["inference_count"] - before["inference_count"] == 21
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 11
    # They did meet in batches: 21 good ones in fewer executions.
    assert after["execution_count"] - before["execution_count"] < 21


def test_many_clients_at_once_get_their_own_answers(server: triton_server.Server, routers: dict[str, Any]) -> None:
    words = ["prove", "the", "hello", "write", "a", "b", "c", "1", "{", "}", "?"]
    rng = np.random.default_rng(11)
    prompts = [" ".join(rng.choice(words, size=rng.integers(0, 30))) for _ in range(32)]
    expected = {kind: routers[kind].route_batch(prompts, no_text="score") for kind in KINDS}
    share = routers["mf"].threshold_for(0.25)
    executed = statistics(server, "busy")["execution_count"]

    def work(number: int) -> None:
        with Client(server, PROTOCOLS[number % 2]) as client:
            for turn in range(12):
                row = (number * 5 + turn) % len(prompts)
                kind = KINDS[turn % 3]
                check_decisions(client.ask(kind, PROMPT=texts([prompts[row]])), [expected[kind][row]])
                if turn % 6 == 0:
                    found = client.ask("busy", PROMPT=texts([prompts[row]]))
                    assert found["WIN_RATE"][0, 0] == np.float32(expected["mf"][row].win_rate)
                    assert bool(found["IS_STRONG"][0, 0]) is (expected["mf"][row].win_rate >= share)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
    assert statistics(server, "busy")["execution_count"] - executed < 64


def test_statistics_count_rows_requests_and_failures(server: triton_server.Server) -> None:
    with Client(server, "grpc") as client:
        before = statistics(server, "sw-float32")
        client.ask("sw-float32", PROMPT=texts(PROMPTS))
        client.refusal("sw-float32", PROMPT=texts(["a"]), THRESHOLD=column([-1.0]))
        # The server counts a refusal when it has sent it, perhaps a moment later.
        failed, deadline_s = before["inference_stats"]["fail"]["count"], time.monotonic() + 60.0
        while (after := statistics(server, "sw-float32"))["inference_stats"]["fail"]["count"] == failed:
            assert time.monotonic() < deadline_s
    assert after["inference_count"] - before["inference_count"] == len(PROMPTS)
    assert after["execution_count"] - before["execution_count"] == 1
    for outcome in ("success", "fail"):
        counts = [found["inference_stats"][outcome]["count"] for found in (before, after)]
        assert counts[1] - counts[0] == 1
    batch = next(entry for entry in after["batch_stats"] if entry["batch_size"] == len(PROMPTS))
    assert all(batch[stage]["ns"] > 0 for stage in ("compute_input", "compute_infer", "compute_output"))
    line = next(
        line for line in server.metrics().splitlines() if line.startswith('nv_inference_count{model="sw-float32"')
    )
    assert float(line.rpartition(" ")[2]) == after["inference_count"]


def test_a_configuration_of_a_name_and_a_backend_is_completed(
    server: triton_server.Server, routers: dict[str, Any]
) -> None:
    config = get_json(server, "models/mf/config")
    assert config["max_batch_size"] == 256
    assert "dynamic_batching" in config
    assert [group["kind"] for group in config["instance_group"]] == ["KIND_CPU"]
    assert [(i["name"], i["data_type"], i["dims"], i["optional"]) for i in config["input"]] == [
        ("PROMPT", "TYPE_STRING", [1], True),
        ("EMBEDDING", "TYPE_FP32", [routers["mf"].dim], True),
        ("THRESHOLD", "TYPE_FP32", [1], True),
    ]
    assert [(o["name"], o["data_type"], o["dims"]) for o in config["output"]] == [
        ("WIN_RATE", "TYPE_FP32", [1]),
        ("IS_STRONG", "TYPE_BOOL", [1]),
        ("MODEL", "TYPE_STRING", [1]),
    ]
    numbers = get_json(server, "models/numbers/config")
    assert [(i["name"], i["optional"]) for i in numbers["input"]] == [("EMBEDDING", False), ("THRESHOLD", True)]
    metadata = get_json(server, "models/mf")
    assert [tensor["shape"] for tensor in metadata["outputs"]] == [[-1, 1]] * 3


def test_a_model_without_batches_answers_single_rows(client: Client, routers: dict[str, Any]) -> None:
    for prompt in PROMPTS:
        found = client.ask("plain", PROMPT=texts([prompt])[0])
        decision = routers["mf"].route(prompt, 0.125, no_text="score")
        assert found["WIN_RATE"].shape == (1,)
        assert found["WIN_RATE"][0] == np.float32(decision.win_rate)
        assert (bool(found["IS_STRONG"][0]), found["MODEL"][0].decode()) == (decision.is_strong, decision.model)
    assert "PROMPT" in client.refusal("plain", PROMPT=texts(["a"]))


def test_equal_requests_are_answered_from_the_response_cache(client: Client, routers: dict[str, Any]) -> None:
    prompt = f"asked by {client.module.__name__}"
    first = client.ask("cached", PROMPT=texts([prompt]))
    again = client.ask("cached", PROMPT=texts([prompt]))
    check_decisions(first, [routers["mf"].route(prompt, no_text="score")])
    check_decisions(again, [routers["mf"].route(prompt, no_text="score")])


def test_the_response_cache_was_hit(server: triton_server.Server) -> None:
    with Client(server, "http") as client:
        before = statistics(server, "cached")
        for _ in range(5):
            client.ask("cached", PROMPT=texts(["the same again"]))
        after = statistics(server, "cached")
    hits = [found["inference_stats"]["cache_hit"]["count"] for found in (before, after)]
    assert hits[1] - hits[0] == 4
    assert after["execution_count"] - before["execution_count"] == 1


def damage_weights(router: Path) -> None:
    weights = bytearray((router / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (router / "weights.safetensors").write_bytes(weights)


def shorten_bank(router: Path) -> None:
    os.truncate(router / "bank.safetensors", 5000)


def raise_version(router: Path) -> None:
    manifest = editable_manifest(router / "router.json")
    manifest["format_version"] = 99
    (router / "router.json").write_text(json.dumps(manifest))


def remove_manifest(router: Path) -> None:
    (router / "router.json").unlink()


PARAMETER = 'parameters [{{ key: "{}" value {{ string_value: "{}" }} }}]'


@pytest.mark.parametrize(
    ("name", "router", "harm", "config", "reason"),
    [
        ("no-directory", None, None, "", "1/router"),
        ("elsewhere", None, None, PARAMETER.format("router_directory", "/no/such/place"), "/no/such/place"),
        ("damaged", "mf-calibrated", damage_weights, "", "weights.safetensors"),
        ("short", "sw-float32", shorten_bank, "", "bank.safetensors"),
        ("newer", "mf-none", raise_version, "", "99"),
        ("no-manifest", "mf-none", remove_manifest, "", "router.json"),
        ("other-kind", "random", None, "", "random"),
        ("unknown", "mf-none", None, PARAMETER.format("threshold", "0.5"), "'threshold' is unknown"),
        ("too-high", "mf-none", None, PARAMETER.format("default_threshold", "1.01"), "'default_threshold' is '1.01'"),
        ("uncalibrated", "mf-none", None, PARAMETER.format("strong_share", "0.5"), "calibration"),
        ("no-text", "mf-none", None, 'input [{ name: "PROMPT" data_type: TYPE_STRING dims: [1] }]', "'PROMPT'"),
        ("wide", "mf-none", None, 'input [{ name: "EMBEDDING" data_type: TYPE_FP32 dims: [7] }]', "dims [7]"),
        ("half", "mf-none", None, 'output [{ name: "WIN_RATE" data_type: TYPE_FP16 dims: [1] }]', "TYPE_FP16"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    server: triton_server.Server,
    name: str,
    router: str | None,
    harm: Callable[[Path], None] | None,
    config: str,
    reason: str,
) -> None:
    repository: Path = server.repository  # type: ignore[attr-defined]
    folder = add_model(repository, name, None if router is None else ARTIFACTS / router, config)
    if harm is not None:
        harm(folder / "router")
    error = control(server, name, "load")
    assert f"routellm model '{name}': " in error
    assert reason in error.partition(f"routellm model '{name}': ")[2]
    assert server.is_running()
    if harm is None:
        return
    # Repaired, it loads.
    shutil.rmtree(folder / "router")
    shutil.copytree(ARTIFACTS / str(router), folder / "router")
    assert control(server, name, "load") == ""
    assert control(server, name, "unload") == ""


def test_a_model_is_reloaded_under_load_without_a_failed_request(server: triton_server.Server) -> None:
    repository: Path = server.repository  # type: ignore[attr-defined]
    by_strong = {
        name: mf_router(model_pair=rf.ModelPair(name, f"weak-{name}"), model_names=(name, f"weak-{name}", "other"))
        for name in ("one", "two")
    }
    folder = add_model(repository, "changing", by_strong["one"])
    assert control(server, "changing", "load") == ""
    win_rates = by_strong["one"].win_rates(PROMPTS)
    seen: list[set[str]] = [set() for _ in range(8)]
    is_over = threading.Event()

    def work(number: int) -> int:
        count = 0
        with Client(server, PROTOCOLS[number % 2]) as client:
            while not is_over.is_set():
                found = client.ask("changing", PROMPT=texts(PROMPTS))
                assert found["WIN_RATE"][:, 0].tobytes() == win_rates.tobytes()
                names = {name.decode().removeprefix("weak-") for name in found["MODEL"][:, 0]}
                assert len(names) == 1, "an answer is of one router, the old one or the new one"
                seen[number] |= names
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work, number) for number in range(8)]
        for turn in range(10):
            name = ("two", "one")[turn % 2]
            by_strong[name].save(folder / "router")
            os.utime(repository / "changing" / "config.pbtxt")
            assert control(server, "changing", "load") == ""
        is_over.set()
        assert sum(worker.result(timeout=60) for worker in workers) > 20
    assert set.union(*seen) == {"one", "two"}
    assert control(server, "changing", "unload") == ""
    with Client(server, "http") as client:
        assert "changing" in client.refusal("changing", PROMPT=texts(["a"]))
