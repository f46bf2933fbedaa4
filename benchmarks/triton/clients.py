"""Clients that add as little as possible to what a Triton server takes: requests are bytes, made before the clock runs.

NVIDIA's own Python client builds and takes apart messages at some 150 µs a request, which would hide what is measured.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OUTPUTS: Final = ("WIN_RATE", "IS_STRONG", "MODEL")
_GRPC_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


def http_request(model: str, prompt: str) -> bytes:
    """Return a whole HTTP request for one decision, by Triton's binary form for tensors."""
    raw = prompt.encode()
    content = struct.pack("<I", len(raw)) + raw
    outputs = ",".join(f'{{"name":"{name}","parameters":{{"binary_data":true}}}}' for name in OUTPUTS)
    header = (
        f'{{"inputs":[{{"name":"PROMPT","shape":[1,1],"datatype":"BYTES","parameters":{{"binary_data_size":'
        f'{len(content)}}}}}],"outputs":[{outputs}]}}'
    ).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(header)}",
        f"Content-Length: {len(header) + len(content)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + header + content


def http_decision(reply: bytes) -> tuple[float, bool, str]:
    """Return win rate, whether strong, and model of an HTTP reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    tensors = body[_header(head, b"inference-header-content-length") :]
    return _decision(tensors[:4], tensors[4:5], tensors[5:])


def grpc_request(model: str, prompt: str) -> bytes:
    """Return the message ModelInfer for one decision."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="PROMPT", datatype="BYTES", shape=[1, 1])
    for name in OUTPUTS:
        request.outputs.add(name=name)
    raw = prompt.encode()
    request.raw_input_contents.append(struct.pack("<I", len(raw)) + raw)
    return bytes(request.SerializeToString())


def grpc_decision(reply: bytes) -> tuple[float, bool, str]:
    """Return win rate, whether strong, and model of a gRPC reply."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferResponse.FromString(reply)
    found = dict(zip((tensor.name for tensor in message.outputs), message.raw_output_contents, strict=True))
    return _decision(*(found[name] for name in OUTPUTS))


class HttpClient:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        reply = b""
        while not is_whole(reply):
            reply += self.receive()
        return reply

    def receive(self) -> bytes:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part

    def close(self) -> None:
        self.socket.close()


class GrpcClient:
    """One channel; messages stay bytes."""

    def __init__(self, port: int) -> None:
        import grpc

        # Channels would share one connection otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.ask: Callable[[bytes], bytes] = self._channel.unary_unary(_GRPC_METHOD)

    def close(self) -> None:
        self._channel.close()


def is_whole(reply: bytes) -> bool:
    """Tell whether an HTTP reply is complete. Raises ConnectionError unless it says 200."""
    head, end, body = reply.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"the server answered {reply!r}")
    return len(body) >= _header(head, b"content-length")


def http_load(port: int, requests: Sequence[bytes], client_count: int) -> tuple[float, NDArray[np.float64]]:
    """Send all requests by so many clients, each its next one once it has an answer; one thread serves them all.

    Returns:
        Seconds in all, and (requests,) seconds each.
    """
    clients = [HttpClient(port) for _ in range(client_count)]
    waiting = iter(range(len(requests)))
    sent_at, took = np.empty(len(requests)), np.empty(len(requests))
    current: dict[HttpClient, tuple[int, bytes]] = {}
    with selectors.DefaultSelector() as selector:

        def send(client: HttpClient) -> None:
            index = next(waiting, None)
            if index is None:
                selector.unregister(client.socket)
                current.pop(client, None)
                return
            current[client] = (index, b"")
            sent_at[index] = time.perf_counter()
            client.socket.sendall(requests[index])

        start = time.perf_counter()
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            send(client)
        while current:
            for key, _ in selector.select():
                client = key.data
                index, reply = current[client]
                reply += client.receive()
                current[client] = (index, reply)
                if is_whole(reply):
                    took[index] = time.perf_counter() - sent_at[index]
                    send(client)
        total = time.perf_counter() - start
    for client in clients:
        client.close()
    return total, took


def grpc_load(port: int, requests: Sequence[bytes], client_count: int) -> tuple[float, NDArray[np.float64]]:
    """Send all requests by so many clients, a thread and a channel each. Returns what http_load returns."""
    took = np.empty(len(requests))
    failures: list[Exception] = []

    def work(first: int) -> None:
        client = GrpcClient(port)
        try:
            for index in range(first, len(requests), client_count):
                start = time.perf_counter()
                client.ask(requests[index])
                took[index] = time.perf_counter() - start
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(client_count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = time.perf_counter() - start
    if failures:
        raise failures[0]
    return total, took


PROTOCOLS: Final[dict[str, Any]] = {
    "gRPC": (GrpcClient, grpc_request, grpc_decision, grpc_load),
    "HTTP": (HttpClient, http_request, http_decision, http_load),
}


def _header(head: bytes, name: bytes) -> int:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return int(value)
    raise ConnectionError(f"the reply has no header {name.decode()}: {head!r}")


def _decision(win_rate: bytes, is_strong: bytes, model: bytes) -> tuple[float, bool, str]:
    (length,) = struct.unpack_from("<I", model)
    return struct.unpack("<f", win_rate)[0], is_strong != b"\0", model[4 : 4 + length].decode()
