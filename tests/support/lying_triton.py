"""A server that speaks Triton's protocols and lies: bodies are whatever a test says, byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_triton import _CONFIG as SOUND_CONFIG
from tests.support.served import served

__all__ = ["SOUND_CONFIG", "Lie", "Output", "answer_of", "lying_triton"]


@dataclass
class Output:
    """A tensor of an answer: what it says of itself, and its bytes."""

    name: str
    datatype: str
    shape: Sequence[int]
    content: bytes
    said_bytes: Any = None  # None for the truth


@dataclass
class Lie:
    """What the server does.

    Attributes:
        config: What it says of its model.
        outputs: Its answer to an inference.
        status: HTTP only.
        headers: HTTP only; further headers.
        body: HTTP only; the body, whatever outputs says.
        drip_s: HTTP only; seconds between two bytes of a body.
        length: HTTP only; what Content-Length says; None for the truth, -1 for none at all.
    """

    config: Any = field(default_factory=lambda: SOUND_CONFIG)
    outputs: Callable[[int], Sequence[Output]] = field(default_factory=lambda: sound)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], Iterator[bytes]] | None = None
    drip_s: float = 0.0
    length: int | None = None


def sound(count: int) -> list[Output]:
    return [
        Output("WIN_RATE", "FP32", [count, 1], struct.pack("<f", 0.25) * count),
        Output("IS_STRONG", "BOOL", [count, 1], bytes(count)),
        Output("MODEL", "BYTES", [count, 1], b"\x04\0\0\0weak" * count),
    ]


def answer_of(outputs: Sequence[Output]) -> tuple[bytes, int]:
    """Return an HTTP body in Triton's binary form, and the length of its JSON."""
    entries = [
        {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape),
         "parameters": {"binary_data_size": len(entry.content) if entry.said_bytes is None else entry.said_bytes}}
        for entry in outputs
    ]  # fmt: skip
    head = json.dumps({"model_name": "router", "model_version": "1", "outputs": entries}).encode()
    return head + b"".join(entry.content for entry in outputs), len(head)


@contextlib.contextmanager
def lying_triton(kind: str, lie: Lie) -> Iterator[str]:
    """Serve over "http" or "grpc"; yields the URL. The lie may be changed while it is served."""
    with _http(lie) if kind == "http" else _grpc(lie) as port:
        yield f"{kind}://127.0.0.1:{port}"


@contextlib.contextmanager
def _http(lie: Lie) -> Iterator[int]:
    ends = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                while line := self.rfile.readline(1 << 16):
                    self._answer(line.split()[0])

        def _answer(self, method: bytes) -> None:
            headers = {}
            while (line := self.rfile.readline(1 << 16)).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            content = self.rfile.read(int(headers.get("content-length", 0)))
            extra = dict(lie.headers)
            if method == b"GET":
                body: Any = json.dumps(lie.config).encode() if not isinstance(lie.config, bytes) else lie.config
                self._send(200, body, {}, 0.0, None)
                return
            head = int(headers.get("inference-header-content-length", len(content)))
            count = json.loads(content[:head])["inputs"][0]["shape"][0]
            if lie.body is None:
                body, size = answer_of(lie.outputs(count))
                extra.setdefault("Inference-Header-Content-Length", str(size))
            else:
                body = lie.body
            self._send(lie.status, body, extra, lie.drip_s, lie.length)

        def _send(self, status: int, body: Any, extra: Mapping[str, str], drip_s: float, length: int | None) -> None:
            if length is None and isinstance(body, bytes):
                length = len(body)
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in extra.items())]
            if length is not None and length >= 0:
                lines.append(f"Content-Length: {length}")
            else:
                lines.append("Connection: close")
            self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            for part in (body,) if isinstance(body, bytes) else body():
                if not drip_s:
                    self.wfile.write(part)
                    continue
                for byte in part:
                    self.wfile.write(bytes([byte]))
                    if ends.wait(drip_s):
                        return
            if length is None or length < 0:
                self.connection.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients hang up on purpose here."""

    with served(Server(("127.0.0.1", 0), Handler), ends) as port:
        yield port


@contextlib.contextmanager
def _grpc(lie: Lie) -> Iterator[int]:
    import grpc
    from google.protobuf.json_format import ParseDict
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ModelConfig(self, request: Any, context: Any) -> Any:
            return ParseDict({"config": lie.config}, service_pb2.ModelConfigResponse())

        def ModelInfer(self, request: Any, context: Any) -> Any:
            time.sleep(lie.drip_s)
            answer = service_pb2.ModelInferResponse(model_name="router", model_version="1")
            for entry in lie.outputs(request.inputs[0].shape[0]):
                answer.outputs.add(name=entry.name, datatype=entry.datatype, shape=entry.shape)
                answer.raw_output_contents.append(entry.content)
            return answer

    server = grpc.server(
        ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=0).wait()
