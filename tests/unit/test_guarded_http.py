"""What servers are told, and how long and how much they may answer: embedder and judge, with a real socket."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import routellm_fast as rf
from routellm_fast.augmentation.endpoint import CallFailedError
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from tests.support.asked_judge import asked_judge
from tests.support.fake_openai import embed
from tests.support.raw_server import Peer, RawRequest, RawServer, answer

WAYS = ("sync", "async", "judge")
EMBEDDING_WAYS = ("sync", "async")
_SECRETS = {
    "OPENAI_API_KEY": "secret-api-key",
    "OPENAI_ADMIN_KEY": "secret-admin-key",
    "OPENAI_ORG_ID": "secret-organization",
    "OPENAI_PROJECT_ID": "secret-project",
    "OPENAI_WEBHOOK_SECRET": "secret-webhook",
    "OPENAI_CUSTOM_HEADERS": "X-Own: secret-own\nAuthorization: Bearer secret-bearer\nUser-Agent: secret-agent\n"
    "Cookie: a=secret-cookie\nHost: secret.example\nAccept: secret/type",
}


def vectors(count: int = 1, dim: int = 4) -> bytes:
    rows = [{"index": index, "embedding": [0.5] * dim} for index in range(count)]
    return json.dumps({"data": rows}).encode()


def completion(text: str = "yes") -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()


def good(peer: Peer, request: RawRequest) -> None:
    body = completion() if b"/chat/" in request.head.split(b"\r\n")[0] else vectors(len(request.json["input"]))
    peer.send(answer(body=body))


def ask(
    server: RawServer, way: str, *, timeout_s: float = 5.0, max_retries: int = 0, api_key: str | None = None
) -> None:
    """Ask once: embedder or judge. Raises what they raise."""
    if way != "judge":
        embedder = rf.OpenAIEmbedder(
            "m", base_url=server.url, dim=4, timeout_s=timeout_s, max_retries=max_retries, api_key=api_key
        )
        assert embed(embedder, ["text"], way).tolist() == [[0.5] * 4]
        return

    settings = EndpointSettings(
        "m", base_url=server.url, timeout_s=timeout_s, max_retries=max_retries, max_tokens=64, temperature=None
    )
    assert asyncio.run(asked_judge(settings, api_key=api_key)) == "yes"


def refused(server: RawServer, way: str, **options: float) -> str:
    """The text of the error by which asking fails."""
    with pytest.raises((rf.EmbeddingError, rf.EndpointError, CallFailedError)) as error:
        ask(server, way, **options)
    return str(error.value)


# --- the environment


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_the_environment_goes_to_a_server_that_it_does_not_name(
    monkeypatch: pytest.MonkeyPatch, way: str, tmp_path: Path
) -> None:
    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login secret-login password secret-password\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with RawServer(good) as server:
        ask(server, way)
        ask(server, way, api_key="key-for-this-server")
    heads = [request.head for request in server.requests]
    assert len(heads) == 2
    assert b"secret" not in b"".join(heads).lower()
    assert b"\r\nauthorization: bearer none\r\n" in heads[0].lower()
    assert b"\r\nauthorization: bearer key-for-this-server\r\n" in heads[1].lower()
    assert f"\r\nhost: 127.0.0.1:{server.port}\r\n".encode() in heads[0].lower()


@pytest.mark.parametrize("way", WAYS)
def test_the_server_that_the_environment_names_gets_what_it_holds_for_it(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with RawServer(good) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-environment")
        monkeypatch.setenv("OPENAI_ORG_ID", "my-organization")
        ask(server, way)
    assert b"bearer key-of-the-environment" in server.requests[0].head.lower()
    assert b"my-organization" in server.requests[0].head


@pytest.mark.parametrize("way", EMBEDDING_WAYS)
def test_what_a_client_of_the_callers_adds_is_sent(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    openai = pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Own: secret-own")
    headers, cookies = {"X-Gateway": "mine"}, {"session": "mine-too"}
    with RawServer(good) as server:
        if way == "sync":
            with openai.DefaultHttpxClient(headers=headers, cookies=cookies) as blocking:
                embed(rf.OpenAIEmbedder("m", base_url=server.url, dim=4, http_client=blocking), ["text"], way)
                assert not blocking.is_closed
        else:

            async def run() -> None:
                async with openai.DefaultAsyncHttpxClient(headers=headers, cookies=cookies) as waiting:
                    async with rf.OpenAIEmbedder(
                        "m", base_url=server.url, dim=4, async_http_client=waiting
                    ) as embedder:
                        await embedder.aembed(["text"])
                    assert not waiting.is_closed

            asyncio.run(run())
    head = server.requests[0].head.lower()
    assert b"x-gateway: mine\r\n" in head
    assert b"session=mine-too" in head
    assert b"secret" not in head


def test_a_client_of_the_wrong_kind_is_refused() -> None:
    openai = pytest.importorskip("openai")
    for client in (object(), openai.DefaultAsyncHttpxClient()):
        with pytest.raises(TypeError, match="Client"):
            rf.OpenAIEmbedder("m", base_url="http://127.0.0.1:9/v1", dim=4, http_client=client).embed(["text"])


@pytest.mark.parametrize("way", WAYS)
def test_cookies_are_not_sent_back(way: str) -> None:
    def act(peer: Peer, request: RawRequest) -> None:
        status = 200 if len(server.requests) > 1 else 500
        body = completion() if way == "judge" else vectors()
        peer.send(answer(status, body, (("Set-Cookie", "id=1; Path=/"),)))

    with RawServer(act) as server:
        server.act = act
        ask(server, way, max_retries=1)
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].head.lower()


# --- redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_is_an_error_that_names_where_it_leads(way: str, status: int) -> None:
    with RawServer(good) as other:
        target = f"http://user:pass@127.0.0.1:{other.port}/v1/embeddings?token=abc"

        def act(peer: Peer, request: RawRequest) -> None:
            peer.send(answer(status, vectors(), (("Location", target), ("X-Should-Retry", "true"))))

        with RawServer(act) as server:
            said = refused(server, way, max_retries=2)
            assert len(server.requests) == 1
        assert not other.requests
    assert f"status {status}" in said
    assert f"a redirect to http://127.0.0.1:{other.port}/v1/embeddings?token=..." in said
    assert "base_url" in said
    assert "pass" not in said
    assert "abc" not in said


@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_to_the_same_host_is_not_followed(way: str) -> None:
    with RawServer(lambda peer, _: peer.send(answer(302, b"", (("Location", "/elsewhere"),)))) as server:
        said = refused(server, way)
    assert f"a redirect to http://127.0.0.1:{server.port}/elsewhere" in said
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["", "http://[", "\xff\xfe", "http://" + "a" * 5000, "ftp://x/", "//"])
def test_a_redirect_to_nonsense_is_an_error_all_the_same(location: str) -> None:
    with RawServer(lambda peer, _: peer.send(answer(302, b"", (("Location", location),)))) as server:
        assert len(refused(server, "sync")) < 1500


# --- time


def _drip_body(peer: Peer, request: RawRequest) -> None:
    peer.send(answer(body=b"", headers=(("Content-Length", "1000000"),)))
    peer.drip(itertools.repeat(b" "), 0.05)


def _drip_head(peer: Peer, request: RawRequest) -> None:
    peer.drip(itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"x")), 0.05)


def _endless_headers(peer: Peer, request: RawRequest) -> None:
    peer.drip((b"HTTP/1.1 200 OK\r\n" if n == 0 else f"X-{n}: y\r\n".encode() for n in itertools.count()), 0.02)


def _endless_chunks(peer: Peer, request: RawRequest) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(itertools.repeat(b"1\r\n \r\n"), 0.02)


def _continue_flood(peer: Peer, request: RawRequest) -> None:
    while True:
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def _slow_continue(peer: Peer, request: RawRequest) -> None:
    peer.drip(itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n"), 0.05)


def _silence(peer: Peer, request: RawRequest) -> None:
    peer.is_gone(30.0)


def _slow_gzip(peer: Peer, request: RawRequest) -> None:
    peer.send(answer(body=b"", headers=(("Content-Length", "1000000"), ("Content-Encoding", "gzip"))))
    packed = gzip.compress(b" " * 100_000, 0)
    peer.drip((packed[k : k + 1] for k in range(len(packed))), 0.05)


@pytest.mark.parametrize(
    "act",
    [_drip_body, _drip_head, _endless_headers, _endless_chunks, _continue_flood, _slow_continue, _silence, _slow_gzip],
    ids=lambda act: act.__name__,
)
@pytest.mark.parametrize("way", WAYS)
def test_one_deadline_covers_an_attempt_whole(way: str, act: Callable[[Peer, RawRequest], None]) -> None:
    with RawServer(act) as server:
        began_s = time.monotonic()
        said = refused(server, way, timeout_s=0.4)
        assert time.monotonic() - began_s < 10.0
    assert "0.4 s" in said
    assert "timeout_s" in said


@pytest.mark.parametrize("way", WAYS)
def test_a_handshake_without_end_ends_at_the_deadline(way: str) -> None:
    class Slow(RawServer):
        @property
        def url(self) -> str:
            return super().url.replace("http:", "https:")

        @staticmethod
        def _read(reader: object) -> None:
            time.sleep(8.0)

    with Slow() as server:
        began_s = time.monotonic()
        said = refused(server, way, timeout_s=0.3)
        assert time.monotonic() - began_s < 6.0
    assert "0.3 s" in said


@pytest.mark.parametrize("way", EMBEDDING_WAYS)
def test_each_attempt_has_its_deadline(way: str) -> None:
    with RawServer(_drip_body) as server:
        said = refused(server, way, timeout_s=0.3, max_retries=1)
        assert len(server.requests) == 2
    assert "2 attempts" in said


def test_the_body_of_a_callers_client_has_a_deadline() -> None:
    client = pytest.importorskip("openai").DefaultHttpxClient()
    with RawServer(_drip_body) as server, client:
        embedder = rf.OpenAIEmbedder("m", base_url=server.url, dim=4, http_client=client, timeout_s=0.4, max_retries=0)
        with pytest.raises(rf.EmbedderUnavailableError, match=r"0\.4 s"):
            embedder.embed(["text"])


@pytest.mark.parametrize("way", EMBEDDING_WAYS)
@pytest.mark.parametrize("header", [("Retry-After", "3600"), ("retry-after-ms", "3600000")])
def test_a_pause_without_end_is_not_waited_for(way: str, header: tuple[str, str]) -> None:
    with RawServer(lambda peer, _: peer.send(answer(429, b'"later"', (header,)))) as server:
        began_s = time.monotonic()
        assert "later" in refused(server, way, max_retries=3)
        assert time.monotonic() - began_s < 5.0
        assert len(server.requests) == 1


# --- bytes


def _packed(encoding: str, body: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body)
    if encoding == "deflate":
        return zlib.compress(body)
    return pytest.importorskip("brotli").compress(body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("way", WAYS)
def test_compressed_answers_are_read(way: str, encoding: str) -> None:
    packed = _packed(encoding, completion() if way == "judge" else vectors())
    with RawServer(lambda peer, _: peer.send(answer(body=packed, headers=(("Content-Encoding", encoding),)))) as server:
        ask(server, way)
    assert b"accept-encoding: gzip, deflate\r\n" in server.requests[0].head.lower()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, br", "bzip2"])
@pytest.mark.parametrize("way", WAYS)
def test_other_encodings_are_named(way: str, encoding: str) -> None:
    with RawServer(lambda peer, _: peer.send(answer(body=b"x", headers=(("Content-Encoding", encoding),)))) as server:
        assert encoding.rsplit(",", maxsplit=1)[-1].strip() in refused(server, way)


@pytest.mark.parametrize(
    "body", [gzip.compress(vectors())[:-9], b"\x1f\x8b\x08nonsense", b"plain"], ids=["cut off", "nonsense", "plain"]
)
@pytest.mark.parametrize("way", WAYS)
def test_damaged_compression_is_named(way: str, body: bytes) -> None:
    with RawServer(lambda peer, _: peer.send(answer(body=body, headers=(("Content-Encoding", "gzip"),)))) as server:
        assert "damaged" in refused(server, way)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_larger_than_any_right_one_is_given_up(way: str) -> None:
    def act(peer: Peer, request: RawRequest) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"10000\r\n" + b" " * 65536 + b"\r\n")

    with RawServer(act) as server:
        assert "bytes, which is more than any answer" in refused(server, way)
        # The embedder asks once more, for the right length: vectors that are too long are one reason.
        assert len(server.requests) == (1 if way == "judge" else 2)


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_without_end_shows_its_beginning(way: str) -> None:
    def act(peer: Peer, request: RawRequest) -> None:
        peer.send(b"HTTP/1.1 400 -\r\nTransfer-Encoding: chunked\r\n\r\n14\r\nno such model, sorry\r\n")
        while True:
            peer.send(b"10000\r\n" + b"." * 65536 + b"\r\n")

    with RawServer(act) as server:
        assert "no such model, sorry" in refused(server, way)


def test_a_model_of_another_length_is_found_by_its_oversized_answer() -> None:
    """Vectors so much longer than expected that the answer is not read: the server is asked for the right length."""

    def act(peer: Peer, request: RawRequest) -> None:
        peer.send(answer(body=vectors(dim=request.json.get("dimensions", 100_000))))

    with RawServer(act) as server:
        ask(server, "sync")
        assert [request.json.get("dimensions") for request in server.requests] == [None, 4]


_MEMORY = """
    import asyncio, gzip, resource, socket, sys, threading, zlib
    import routellm_fast as rf
    from tests.unit.test_guarded_http import ask
    from tests.support.raw_server import RawServer, answer

    encoding, way = sys.argv[1:]
    size = 1 << 32
    if encoding == "br":
        import brotli
        packer = brotli.Compressor(quality=1)
        pieces = [packer.process(bytes(1 << 24)) for _ in range(size >> 24)] + [packer.finish()]
    elif encoding == "zstd":
        # A frame whose blocks each repeat one byte 128 KiB times.
        block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b" "
        pieces = [b"\\x28\\xb5\\x2f\\xfd\\x00\\x58", block * (size >> 17)]
    else:
        packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
        pieces = [packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)]
        block = packer.compress(b" " * (1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
        pieces += [block] * (size >> 24)
    body = b"".join(pieces)
    head = (("Content-Encoding", encoding), ("Content-Type", "application/json"))
    with RawServer(lambda peer, _: peer.send(answer(body=body, headers=head))) as server:
        try:
            rf.OpenAIEmbedder("warm", base_url="http://127.0.0.1:1/v1", dim=4, max_retries=0).embed(["x"])
        except rf.EmbedderUnavailableError:
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            ask(server, way)
        except Exception as error:
            print(type(error).__name__)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(len(body), grown, file=sys.stderr)
        assert grown < 40_000, f"{grown} KiB"
"""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("way", ["sync", "judge"])
def test_four_gigabytes_of_nothing_take_no_memory(way: str, encoding: str) -> None:
    if encoding == "br":
        pytest.importorskip("brotli")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_MEMORY), encoding, way],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() in (["InvalidEmbeddingError"], ["CallFailedError"]), run.stdout + run.stderr
