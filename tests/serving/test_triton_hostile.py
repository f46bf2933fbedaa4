"""A Triton client before servers that point elsewhere, or answer with more than an answer can hold."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import TritonUnavailableError
from routellm_fast.serving import _triton_http
from routellm_fast.serving.triton import TritonRouter
from tests.support.fake_triton import WIN_RATE, fake_triton
from tests.support.raw_server import Peer, RawRequest, RawServer, answer

pytest.importorskip("tritonclient.http")


def _address(server: RawServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with RawServer() as other:
        headers = (("Location", f"{_address(other)}/v2/models/router/config?token=abc"),)
        with (
            RawServer(lambda peer, _: peer.send(answer(status, b"", headers))) as server,
            TritonRouter(_address(server), timeout_s=5.0) as router,
            pytest.raises(TritonUnavailableError, match="a redirect to") as error,
        ):
            router.win_rate("a secret prompt")
        assert not other.requests
    assert "abc" not in str(error.value)


def _endless(peer: Peer, request: RawRequest) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


def _bomb(peer: Peer, request: RawRequest) -> None:
    packer = zlib.compressobj(9, wbits=31)
    block = packer.compress(bytes(1 << 22)) + packer.flush(zlib.Z_FULL_FLUSH)
    peer.send(answer(body=block * 256, headers=(("Content-Encoding", "gzip"),)))


def _cut(peer: Peer, request: RawRequest) -> None:
    peer.send(answer(body=gzip.compress(b"{}")[:-5], headers=(("Content-Encoding", "gzip"),)))


@pytest.mark.parametrize(
    ("act", "words"),
    [(_endless, "more than any answer"), (_bomb, "more than any answer"), (_cut, "damaged")],
    ids=["endless", "bomb", "cut"],
)
def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch, act: Any, words: str) -> None:
    monkeypatch.setattr(_triton_http, "MOST_ANSWER_BYTES", 1 << 20)
    with (
        RawServer(act) as server,
        TritonRouter(_address(server), timeout_s=20.0) as router,
        pytest.raises(TritonUnavailableError, match=words),
    ):
        router.win_rate("a")


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_an_honest_server_is_read_as_ever(kind: str) -> None:
    with fake_triton(kind) as server, TritonRouter(server.url) as router:
        assert router.win_rate("a") == WIN_RATE
        np.testing.assert_array_equal(router.win_rates(["a", "b"]), np.float32([WIN_RATE, WIN_RATE]))
