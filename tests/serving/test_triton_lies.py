"""The client and servers that lie: named errors within the deadline, and no more memory than an answer takes."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import TritonAnswerError, TritonError, TritonUnavailableError
from routellm_fast.serving.triton import AsyncTritonRouter, TritonRouter
from routellm_fast.serving.triton_protocol import Served
from tests.support.lying_triton import SOUND_CONFIG, Lie, Output, lying_triton, sound

pytest.importorskip("tritonclient.grpc")
pytest.importorskip("tritonclient.http")

TIMEOUT_S = 2.0
KINDS = ("http", "grpc")


def changed(index: int, **changes: Any) -> Callable[[int], Sequence[Output]]:
    def outputs(count: int) -> Sequence[Output]:
        found = sound(count)
        for name, value in changes.items():
            setattr(found[index], name, value)
        return found

    return outputs


LIES: dict[str, Callable[[int], Sequence[Output]]] = {
    "NaN": changed(0, content=struct.pack("<f", float("nan"))),
    "infinite": changed(0, content=struct.pack("<f", float("inf"))),
    "above one": changed(0, content=struct.pack("<f", 1.5)),
    "negative": changed(0, content=struct.pack("<f", -0.25)),
    "float64": changed(0, datatype="FP64", content=struct.pack("<d", 0.25)),
    "unknown type": changed(0, datatype="FP31"),
    "texts for win rates": changed(0, datatype="BYTES", content=b"\x01\0\0\0a"),
    "too few rows": changed(0, shape=[0, 1], content=b""),
    "too many rows": changed(0, shape=[3, 1], content=struct.pack("<fff", 0.1, 0.2, 0.3)),
    "another rank": changed(0, shape=[1]),
    "huge shape": changed(0, shape=[1 << 40, 1 << 20]),
    "short content": changed(0, content=b"\0"),
    "numbers for truth": changed(1, datatype="FP32", content=struct.pack("<f", float("nan"))),
    "lying text length": changed(2, content=b"\xff\xff\xff\x7fweak"),
    "cut text": changed(2, content=b"\x04\0"),
    "no UTF-8": changed(2, content=b"\x02\0\0\0\xff\xfe"),
    "no output": lambda count: [],
    "one output": lambda count: sound(count)[:1],
    "huge": changed(2, content=b"\0\0\0\x05" + bytes(80 << 20)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", LIES)
def test_an_answer_that_is_none_is_a_named_error(kind: str, what: str) -> None:
    with (
        lying_triton(kind, Lie(outputs=LIES[what])) as url,
        TritonRouter(url, timeout_s=10, tries=1) as router,
        pytest.raises((TritonAnswerError, TritonUnavailableError)),
    ):
        router.route("a", 0.5)


@pytest.mark.parametrize(
    "outputs", [changed(0, said_bytes=1 << 60), changed(0, said_bytes=-4), changed(0, said_bytes="4")]
)
def test_sizes_of_an_http_answer_that_lie(outputs: Callable[[int], Sequence[Output]]) -> None:
    with (
        lying_triton("http", Lie(outputs=outputs)) as url,
        TritonRouter(url, timeout_s=10, tries=1) as router,
        pytest.raises((TritonAnswerError, TritonUnavailableError)),
    ):
        router.route("a", 0.5)


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(1 << 20)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (Lie(body=b""), "no answer|Error"),
        (Lie(body=b"[" * 100_000), "Error"),
        (Lie(body=b"null"), "Error"),
        (Lie(body=b'{"outputs": 7}'), "Error"),
        (Lie(headers={"Inference-Header-Content-Length": "-7"}), "Error"),
        (Lie(headers={"Inference-Header-Content-Length": "many"}), "Error"),
        (Lie(headers={"Inference-Header-Content-Length": "9" * 30}), "Error"),
        (Lie(body=gzip.compress(bytes(1 << 24)), headers={"Content-Encoding": "gzip"}), "compressed"),
        (Lie(body=b"x", headers={"Content-Encoding": "deflate"}), "compressed"),
        (Lie(body=endless, length=-1), "longer than"),
        (Lie(body=endless, length=1 << 50), "longer than"),
        (Lie(body=endless, length=-1, status=500), "longer than"),
        (Lie(body=b"{}", length=1000), "no answer in"),
        (Lie(drip_s=0.2), "no answer in"),
        (Lie(status=500, body=b"\xff" * 5000), "500"),
        (Lie(status=302, headers={"Location": "http://127.0.0.1:1/"}, body=b""), "not followed"),
    ],
)
def test_an_http_body_that_is_none_is_a_named_error_within_the_deadline(lie: Lie, reason: str) -> None:
    with lying_triton("http", lie) as url, TritonRouter(url, timeout_s=TIMEOUT_S, tries=1) as router:
        began_s = time.monotonic()
        with pytest.raises((TritonAnswerError, TritonUnavailableError), match=reason) as caught:
            router.route("a", 0.5)
        assert time.monotonic() - began_s < TIMEOUT_S + 10
        assert len(str(caught.value)) < 2000


def test_a_slow_answer_over_grpc_ends_at_the_deadline() -> None:
    with (
        lying_triton("grpc", Lie(drip_s=4.0)) as url,
        TritonRouter(url, timeout_s=0.5, tries=1) as router,
        pytest.raises(TritonUnavailableError, match="no answer in"),
    ):
        router.win_rate("a")


def test_asyncio_meets_the_same_errors() -> None:
    async def ask(url: str) -> None:
        async with AsyncTritonRouter(url, timeout_s=10, tries=1) as router:
            await router.route("a", 0.5)

    for kind in KINDS:
        with lying_triton(kind, Lie(outputs=LIES["no UTF-8"])) as url, pytest.raises(TritonAnswerError, match="UTF-8"):
            asyncio.run(ask(url))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_prompts_follow_no_redirect(status: int) -> None:
    reached: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            reached.append(self.path)
            self.send_error(404)

        do_POST = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        lie = Lie(status=status, headers={"Location": f"http://127.0.0.1:{other.server_address[1]}/v2"}, body=b"")
        with (
            lying_triton("http", lie) as url,
            TritonRouter(url, timeout_s=5) as router,
            pytest.raises(TritonError, match="which is not followed"),
        ):
            router.win_rate("secret")
        other.shutdown()
    assert reached == []


CONFIGS: dict[str, Any] = {
    "list": [1],
    "null": None,
    "inputs are text": {**SOUND_CONFIG, "input": "PROMPT"},
    "no dims": {**SOUND_CONFIG, "input": [{"name": "PROMPT"}, {"name": "EMBEDDING", "dims": []}]},
    "empty dims": {**SOUND_CONFIG, "input": [{"name": "EMBEDDING", "dims": []}]},
    "no width": {**SOUND_CONFIG, "input": [{"name": "EMBEDDING", "dims": [0]}]},
    "endless width": {**SOUND_CONFIG, "input": [{"name": "EMBEDDING", "dims": [float("inf")]}]},
    "endless batch": {**SOUND_CONFIG, "max_batch_size": float("inf")},
    "models are numbers": {
        **SOUND_CONFIG,
        "parameters": {"strong_model": {"string_value": 1}, "weak_model": {"string_value": 2}},
    },
    "threshold": {**SOUND_CONFIG, "parameters": {"default_threshold": {"string_value": "nan"}}},
    "deep": {**SOUND_CONFIG, "parameters": {"calibration": {"string_value": "[" * 100_000}}},
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_configuration_that_is_no_routers_is_a_named_error(what: str) -> None:
    with lying_triton("http", Lie(config=CONFIGS[what])) as url, TritonRouter(url, timeout_s=5, tries=1) as router:
        with pytest.raises((TritonAnswerError, TritonUnavailableError)):
            router.win_rate("a")
        with pytest.raises((TritonAnswerError, TritonUnavailableError)):
            router.win_rates_from_embeddings(np.empty((2, 0), np.float32))
        assert not router.is_healthy()


def test_a_batch_size_beyond_all_measure_makes_no_request_that_large() -> None:
    served = Served.of({**SOUND_CONFIG, "max_batch_size": 10**30}, "router")
    assert served.max_batch_size == 10**30
    with (
        lying_triton("http", Lie(config={**SOUND_CONFIG, "max_batch_size": 1 << 62})) as url,
        TritonRouter(url, timeout_s=60) as router,
    ):
        assert router.win_rates([""] * 150_000).tolist() == [0.25] * 150_000


FULL = """
import numpy as np
from routellm_fast.serving.triton import TritonRouter
from tests.support.lying_triton import SOUND_CONFIG, Lie, lying_triton

entry = {"name": "EMBEDDING", "data_type": "TYPE_FP32", "dims": [64]}
config = {**SOUND_CONFIG, "max_batch_size": 100000, "input": [entry]}
with (
    lying_triton("grpc", Lie(config=config)) as url,
    TritonRouter(url, shared_memory_from_bytes=1, timeout_s=60) as router,
):
    print(router.win_rates_from_embeddings(np.ones((20000, 64), np.float32)).shape)
"""


def test_embeddings_are_sent_where_shared_memory_is_full() -> None:
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no rights to mount a small /dev/shm")
    command = f'{mount} && exec "$0" -c "$1"'
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, sys.executable, FULL], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "(20000,)\n"), found.stderr
