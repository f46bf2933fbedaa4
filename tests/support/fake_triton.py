"""A stand-in for a Triton server on the loopback, over HTTP and gRPC: every win rate is 0.25, after a while."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.support.served import served

WIN_RATE = 0.25
_CONFIG: dict[str, Any] = {
    "name": "router",
    "max_batch_size": 4,
    "input": [{"name": "PROMPT", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [
        {"name": "WIN_RATE", "data_type": "TYPE_FP32", "dims": [1]},
        {"name": "IS_STRONG", "data_type": "TYPE_BOOL", "dims": [1]},
        {"name": "MODEL", "data_type": "TYPE_STRING", "dims": [1]},
    ],
    "parameters": {
        "strong_model": {"string_value": "strong"},
        "weak_model": {"string_value": "weak"},
        "default_threshold": {"string_value": "0.5"},
    },
}


class FakeTriton:
    """What the server does. `answers` is cleared to keep every inference waiting until it is set again."""

    def __init__(self, delay_s: float) -> None:
        self.paths: set[str] = set()
        self.url = ""
        self.delay_s = delay_s
        self.answers = threading.Event()
        self.answers.set()
        self.ends = threading.Event()
        self.inferences = 0
        self.waits = threading.Semaphore(0)  # counts the inferences that have come in

    def wait(self) -> None:
        self.inferences += 1
        self.waits.release()
        self.ends.wait(self.delay_s)
        while not (self.answers.wait(0.05) or self.ends.is_set()):
            pass


@contextlib.contextmanager
def fake_triton(kind: str, delay_s: float = 0.0, certificate: str | None = None) -> Iterator[FakeTriton]:
    """Serve over "http" or "grpc"; each inference takes so long.

    A certificate for localhost, a file with its key, makes http serve https.
    """
    fake = FakeTriton(delay_s)
    with _over_http(fake, certificate) if kind == "http" else _over_grpc(fake) as port:
        fake.url = f"{kind}://127.0.0.1:{port}" if certificate is None else f"https://localhost:{port}"
        try:
            yield fake
        finally:
            fake.ends.set()


@contextlib.contextmanager
def _over_http(fake: FakeTriton, certificate: str | None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            fake.paths.add(self.path)
            self._send(_CONFIG)

        def do_POST(self) -> None:
            fake.paths.add(self.path)
            content = self.rfile.read(int(self.headers["Content-Length"]))
            size = int(self.headers.get("Inference-Header-Content-Length", len(content)))
            count = json.loads(content[:size])["inputs"][0]["shape"][0]
            fake.wait()
            values = {
                "WIN_RATE": ("FP32", [WIN_RATE]), "IS_STRONG": ("BOOL", [False]), "MODEL": ("BYTES", ["weak"])
            }  # fmt: skip
            outputs = [
                {"name": name, "datatype": dtype, "shape": [count, 1], "data": value * count}
                for name, (dtype, value) in values.items()
            ]
            self._send({"model_name": "router", "model_version": "1", "outputs": outputs})

        def _send(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            with contextlib.suppress(OSError):  # the client is closed at any moment here
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients hang up on purpose here."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with served(server, fake.ends) as port:
        yield port


@contextlib.contextmanager
def _over_grpc(fake: FakeTriton) -> Iterator[int]:
    import grpc
    from google.protobuf.json_format import ParseDict
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ModelConfig(self, request: Any, context: Any) -> Any:
            return ParseDict({"config": _CONFIG}, service_pb2.ModelConfigResponse())

        def ModelInfer(self, request: Any, context: Any) -> Any:
            count = request.inputs[0].shape[0]
            fake.wait()
            name = len(b"weak").to_bytes(4, "little") + b"weak"
            known = {
                "WIN_RATE": ("FP32", np.full(count, WIN_RATE, np.float32).tobytes()),
                "IS_STRONG": ("BOOL", bytes(count)),
                "MODEL": ("BYTES", name * count),
            }
            answer = service_pb2.ModelInferResponse(model_name="router", model_version="1")
            for output in request.outputs:
                dtype, content = known[output.name]
                answer.outputs.add(name=output.name, datatype=dtype, shape=[count, 1])
                answer.raw_output_contents.append(content)
            return answer

    server = grpc.server(ThreadPoolExecutor(64))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        fake.ends.set()
        server.stop(grace=1.0).wait()
