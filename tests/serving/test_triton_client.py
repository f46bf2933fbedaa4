"""The client where no server answers, or none that it should believe."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.errors import InvalidArgumentError, MissingExtraError, TritonError, TritonUnavailableError
from routellm_fast.routers import RandomRouter
from routellm_fast.serving import triton
from routellm_fast.serving._triton_replica import _read_url
from routellm_fast.serving.triton import AsyncTritonRouter, TritonRouter
from tests.support.builders import PAIR, mf_router
from tests.support.fake_triton import WIN_RATE, fake_triton
from tests.support.processes import run_python

pytest.importorskip("tritonclient.grpc")
pytest.importorskip("tritonclient.http")

PROMPTS = ["", "prove the", "hello"]


@pytest.fixture(params=["http", "grpc"])
def nobody(request: pytest.FixtureRequest) -> str:
    """A URL at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"{request.param}://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(params=["http", "grpc"])
def silent(request: pytest.FixtureRequest) -> Iterator[str]:
    """A URL at which connections are taken and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"{request.param}://127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_server_the_error_names_every_replica(nobody: str) -> None:
    with TritonRouter([nobody, nobody.replace("127.0.0.1", "localhost")], timeout_s=3) as router:
        for call in (
            lambda: router.win_rate("a"),
            lambda: router.route("a"),
            lambda: router.win_rates_from_embeddings(np.ones((1, 9), np.float32)),
            lambda: router.model_pair,
            lambda: router.threshold_for(0.5),
        ):
            with pytest.raises(TritonUnavailableError, match="localhost") as caught:
                call()
            assert isinstance(caught.value, (ConnectionError, TritonError))
            assert nobody in str(caught.value)
        assert not router.is_healthy()
        assert set(router.health()) == {nobody, nobody.replace("127.0.0.1", "localhost")}
        assert (router.counts.requests, router.counts.failures, router.counts.fallbacks) == (3, 3, 0)


def test_a_local_router_decides_instead(nobody: str) -> None:
    local = mf_router()
    with TritonRouter(nobody, fallback=local, timeout_s=3) as router:
        np.testing.assert_array_equal(router.win_rates(PROMPTS), local.win_rates(PROMPTS))
        assert router.route_batch(PROMPTS, 0.4) == local.route_batch(PROMPTS, 0.4)
        vectors = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32)
        np.testing.assert_array_equal(
            router.win_rates_from_embeddings(vectors), local.win_rates_from_embeddings(vectors)
        )
        assert (router.model_pair, router.threshold_for(0.3)) == (local.model_pair, local.threshold_for(0.3))
        assert (router.counts.requests, router.counts.failures, router.counts.fallbacks) == (3, 0, 3)
        # What is wrong with the call itself is no reason to fall back.
        with pytest.raises(rf.InvalidThresholdError):
            router.route("a", -1)
        with pytest.raises(TypeError):
            router.win_rates([b"a"])


def test_a_fallback_that_scores_no_embeddings_says_so(nobody: str) -> None:
    with (
        TritonRouter(nobody, fallback=RandomRouter(PAIR), timeout_s=3) as router,
        pytest.raises(TritonUnavailableError, match="kind 'random', which scores no embeddings"),
    ):
        router.win_rates_from_embeddings(np.ones((1, 9), np.float32))


def test_or_always_the_strong_model(nobody: str) -> None:
    with TritonRouter(nobody, fallback="strong", model_pair=PAIR, timeout_s=3) as router:
        assert router.route_batch(PROMPTS, 0.9) == [
            rf.Decision(PAIR.strong, 1.0, 0.9, True, "text" if prompt.strip() else "no_text") for prompt in PROMPTS
        ]
        assert router.route("", no_text="weak") == (PAIR.weak, 1.0, 1.0, False, "no_text")
        assert router.win_rates(PROMPTS).tolist() == [1.0] * 3
        assert router.model_pair == PAIR
        assert router.counts.fallbacks == 3
    with TritonRouter(nobody, fallback="strong", timeout_s=3) as router:
        assert router.win_rate("a") == 1.0
        with pytest.raises(TritonUnavailableError, match="give model_pair"):
            router.route("a")


def test_a_silent_server_is_waited_for_as_long_as_was_said(silent: str) -> None:
    with TritonRouter(silent, fallback=mf_router(), timeout_s=0.4, cool_down_s=60) as router:
        start = time.monotonic()
        assert router.route("prove the", 0.4) == mf_router().route("prove the", 0.4)
        waited_s = time.monotonic() - start
        assert 0.3 <= waited_s < 10
        # As long as it has just failed, calls go to the fallback at once.
        start = time.monotonic()
        for _ in range(20):
            router.win_rate("a")
        assert time.monotonic() - start < 20 * 0.4
        assert (router.counts.fallbacks, router.counts.retries) == (21, 1)
    with TritonRouter(silent, timeout_s=0.3) as router, pytest.raises(TritonUnavailableError, match="no answer in"):
        router.win_rate("a")


def test_many_threads_share_one_client(nobody: str) -> None:
    local = mf_router()
    expected = local.win_rates(PROMPTS).tolist()
    wrong = []
    with TritonRouter(nobody, fallback=local, timeout_s=10) as router:

        def ask() -> None:
            wrong.extend(index for index, prompt in enumerate(PROMPTS) if router.win_rate(prompt) != expected[index])

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert router.counts.requests == router.counts.fallbacks == 48
    # What it counted stays to be read.
    assert router.counts.requests == 48


def test_a_forked_process_asks_by_itself(nobody: str) -> None:
    if nobody.startswith("grpc"):
        pytest.skip("grpc's own threads forbid forking")
    program = f"""
import os, sys
from tests.support.builders import mf_router
from routellm_fast.serving.triton import TritonRouter
router = TritonRouter({nobody!r}, fallback=mf_router(), timeout_s=5)
expected = router.win_rate("a")
child = os.fork()
if not child:
    os._exit(0 if router.win_rate("a") == expected and router.counts.requests == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = run_python("-W", "ignore", "-c", program, timeout_s=60)
    assert run.stdout.strip() == "0", run.stderr


def test_asyncio_has_the_same_face(nobody: str) -> None:
    local = mf_router()

    async def ask() -> Any:
        async with AsyncTritonRouter(nobody, fallback=local, timeout_s=3) as router:
            rates = await router.win_rates(PROMPTS)
            return rates, await router.route("a", 0.3), await router.model_pair(), await router.threshold_for(0.3)

    rates, decision, pair, threshold = asyncio.run(ask())
    np.testing.assert_array_equal(rates, local.win_rates(PROMPTS))
    assert (decision, pair, threshold) == (local.route("a", 0.3), local.model_pair, local.threshold_for(0.3))


@pytest.mark.parametrize(
    ("urls", "settings", "words"),
    [
        ("127.0.0.1:8000", {}, "http://host:port"),
        ("ftp://127.0.0.1:8000", {}, "grpc://host:port"),
        ("http://127.0.0.1:x", {}, "is no URL"),
        ("http://[::1", {}, "is no URL"),
        ("http://:8000", {}, "host:port"),
        ("grpc://127.0.0.1:1/path", {}, "gRPC has no paths"),
        ("http://127.0.0.1:1/path?token=1", {}, "query or fragment"),
        ("http://127.0.0.1:1#a", {}, "query or fragment"),
        ([], {}, "at least one"),
        ("http://127.0.0.1:1", {"fallback": "weak"}, "fallback is a router"),
        ("http://127.0.0.1:1", {"timeout_s": 0}, "timeout_s"),
        ("http://127.0.0.1:1", {"timeout_s": float("nan")}, "timeout_s"),
        ("http://127.0.0.1:1", {"tries": 0}, "tries"),
        ("http://127.0.0.1:1", {"tries": 2.5}, "tries"),
        ("http://127.0.0.1:1", {"cool_down_s": -1}, "cool_down_s"),
    ],
)
def test_arguments(urls: Any, settings: dict[str, Any], words: str) -> None:
    for kind in (TritonRouter, AsyncTritonRouter):
        with pytest.raises(InvalidArgumentError, match=words):
            kind(urls, **settings)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_path_is_put_in_front_of_the_servers_own(slash: str) -> None:
    with fake_triton("http") as server:
        url = f"{server.url}/cluster/triton{slash}"
        with TritonRouter(url) as router:
            assert router.win_rates(PROMPTS).tolist() == [WIN_RATE] * 3
            assert router.health() == {url: ""}

        async def ask() -> list[float]:
            async with AsyncTritonRouter(url) as other:
                return (await other.win_rates(PROMPTS)).tolist()

        assert asyncio.run(ask()) == [WIN_RATE] * 3
        assert server.paths == {f"/cluster/triton/v2/models/router/{verb}" for verb in ("config", "infer")}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://triton", "triton"),
        ("https://triton", "triton"),
        ("https://triton/a/b/", "triton/a/b"),
        ("http://triton:/", "triton"),
        ("http://[::1]/a", "[::1]/a"),
        ("http://triton:8000/a", "triton:8000/a"),
        ("grpc://triton", "triton:80"),
        ("grpcs://triton/", "triton:443"),
        ("grpcs://[::1]", "[::1]:443"),
        ("grpc://triton:8001", "triton:8001"),
    ],
)
def test_without_a_port_it_is_that_of_the_protocol(url: str, address: str) -> None:
    kind = "http" if url.startswith("http") else "grpc"
    assert _read_url(url) == (kind, url.partition("://")[0].endswith("s"), address)


def make_certificate(folder: Path) -> Path:
    """A file with a certificate for localhost, signed by itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_with_a_path(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    program = f"""
import asyncio
from routellm_fast.serving.triton import AsyncTritonRouter, TritonRouter
from tests.support.fake_triton import WIN_RATE, fake_triton
with fake_triton("http", certificate={str(certificate)!r}) as server:
    url = server.url + "/triton"
    assert url.startswith("https://localhost:"), url
    with TritonRouter(url) as router:
        assert router.win_rate("a") == WIN_RATE
    async def ask():
        async with AsyncTritonRouter(url) as other:
            return await other.win_rate("a")
    assert asyncio.run(ask()) == WIN_RATE
    assert server.paths == {{"/triton/v2/models/router/config", "/triton/v2/models/router/infer"}}
"""
    run = run_python("-c", program, environment={"SSL_CERT_FILE": str(certificate)})
    assert run.returncode == 0, run.stderr


def test_a_missing_extra_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.http.aio", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[triton\]"):
        TritonRouter("http://127.0.0.1:1")


def test_check_says_what_is_wrong(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert triton.main(["--check", nobody, "--timeout", "1"]) == 1
    assert capsys.readouterr().out.startswith(f"{nobody}: ")
    assert triton.main(["--check", "nonsense"]) == 2
    run = subprocess.run(
        [sys.executable, "-m", "routellm_fast.serving.triton", "--check", nobody, "--timeout", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (run.returncode, run.stderr) == (1, "")


def test_importing_the_client_loads_no_tritonclient() -> None:
    program = "import sys, routellm_fast.serving.triton; print('tritonclient' in sys.modules, 'grpc' in sys.modules)"
    assert run_python("-c", program).stdout.split() == ["False", "False"]
