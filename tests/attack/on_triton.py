"""A real Triton server with this package's backend, under requests, clients and repositories that harm.

Skipped where no server is; see tests/support/triton_server.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from routellm_fast.export import export_triton

from routellm_fast.serving import triton_backend_directory
from tests.attack.harness import Attack, Campaign
from tests.support import triton_server
from tests.support.builders import mf_router

_PROMPTS: Final = ("prove the", "", "hello", "caf\u00e9 \U0001f642", "a b c " * 300)
_DIM: Final = 9
_TIMEOUT_S: Final = 60.0
# Above the level after the first third of the tries: what arenas and caches take as they warm up, never what leaks.
_GROWTH_BYTES: Final = 192 << 20
_CONFIG: Final = "max_batch_size: 64\ndynamic_batching { max_queue_delay_microseconds: 200 }\n"
_HUGE: Final = (0, -1, 2, 65, 1 << 20, 1 << 31, 1 << 40, -(1 << 63), (1 << 63) - 1)
_NAMES: Final = ("PROMPT", "EMBEDDING", "THRESHOLD", "WIN_RATE", "", "prompt", "X" * 5000)
_TYPES: Final = ("BYTES", "FP32", "FP64", "INT64", "BOOL", "FP31", "")


class _Target:
    """The server, and what it must always answer."""

    def __init__(self, server: triton_server.Server, model: str, router: Any) -> None:
        self.server, self.model = server, model
        self._expected = dict(zip(_PROMPTS, router.win_rates(_PROMPTS).tolist(), strict=True))

    def check(self, rng: random.Random) -> None:
        """Ask for a good prompt: the answer must have the right bits."""
        prompt = rng.choice(_PROMPTS)
        status, body = self.post(f"/v2/models/{self.model}/infer", json.dumps(_question(prompt)).encode())
        assert status == 200, f"a good request beside got {status}: {body[:300]!r}"
        found = {entry["name"]: entry["data"][0] for entry in json.loads(body)["outputs"]}["WIN_RATE"]
        expected = self._expected[prompt]
        assert np.float32(found) == np.float32(expected), f"{prompt!r} got {found} beside bad requests, not {expected}"

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.server.pid}/statm").read_text(encoding="ascii").split()
        # Without what is shared: the Python backend keeps its regions as large as the longest text needed.
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def _question(prompt: str) -> dict[str, Any]:
    return {"inputs": [{"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "data": [prompt]}]}


def _add_model(repository: Path, name: str, router: Any) -> Path:
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "routellm"\n{_CONFIG}', encoding="utf-8")
    router.save(folder / "1" / "router")
    return folder


@contextlib.contextmanager
def _served(campaign: Campaign) -> Iterator[tuple[triton_server.Server, Path, Any]]:
    """Serve two models in the native backend, mf and other, and one in the Python backend."""
    triton_server.environment()
    router, repository = mf_router(), campaign.folder / "repository"
    router.save(campaign.folder / "router")
    export_triton(campaign.folder / "router", repository, name="python", mode="python")
    for name in ("mf", "other"):
        _add_model(repository, name, router)
    with triton_server.start(
        repository,
        backends={"routellm": triton_backend_directory() / "routellm"},
        explicit=["mf", "other", "python"],
    ) as server:
        yield server, repository, router


# Requests. Each returns what became of it; "refused" and "answered" are the server's to say.


def _lying_bytes(target: _Target, rng: random.Random) -> str:
    """Strings whose lengths lie, in Triton's binary form."""
    content = rng.choice((
        b"", b"\x01", b"\xff\xff\xff\xff", b"\x05\0\0\0abc", b"\x03\0\0\0abcd", struct.pack("<I", 1 << 31) + b"abc",
        b"\0\0\0\0\0", rng.randbytes(rng.randrange(40)),
    ))  # fmt: skip
    rows = rng.choice((1, 1, 2, 64, *_HUGE))
    said = rng.choice((len(content), len(content), *_HUGE))
    entry = {"name": "PROMPT", "shape": [rows, 1], "datatype": "BYTES", "parameters": {"binary_data_size": said}}
    return _send(target, {"inputs": [entry]}, content, rng)


def _wrong_tensors(target: _Target, rng: random.Random) -> str:
    """Names, types, shapes and values at random; missing, doubled and many inputs and outputs.

    Shapes that need much memory are left out: the server's own HTTP front end takes that memory before it looks at the
    values, and ends where there is none (docs/triton.md).
    """
    entries = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 200))):
        shape = [rng.choice((1, 1, _DIM, 0, -1, 2, 65)) for _ in range(rng.choice((0, 1, 2, 2, 2, 3, 60)))]
        if sum(size > 1 for size in shape) > 3:
            shape = shape[:3]
        data: Any = rng.choice(([], [1.0] * _DIM, ["a"], [None], [[1]], {}, "x", ["a"] * 64, [1e39] * _DIM, [-1] * 3))
        entries.append({"name": rng.choice(_NAMES), "shape": shape, "datatype": rng.choice(_TYPES), "data": data})
    request: dict[str, Any] = {"inputs": entries}
    if rng.random() < 0.3:
        request["outputs"] = [{"name": rng.choice(_NAMES)} for _ in range(rng.choice((1, 3, 300)))]
    if rng.random() < 0.2:
        request["parameters"] = {f"p{index}": rng.choice((1, "x", True)) for index in range(3000)}
    return _send(target, request, b"", rng)


def _wrong_json(target: _Target, rng: random.Random) -> str:
    """Bodies that are no request: cut, nested, not UTF-8, bits flipped."""
    sound = bytearray(json.dumps(_question("prove the")).encode())
    what = rng.randrange(5)
    if what == 0:
        body = bytes(sound[: rng.randrange(len(sound))])
    elif what == 1:
        body = b"[" * rng.choice((10, 1000, 100_000))
    elif what == 2:
        body = rng.randbytes(rng.randrange(400))
    elif what == 3:
        body = bytes(sound).replace(b"prove", rng.randbytes(5))
    else:
        for _ in range(rng.choice((1, 3, 9))):
            sound[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        body = bytes(sound)
    size = rng.choice((None, None, 0, len(body), len(body) + 7, -1, 1 << 62))
    headers = {} if size is None else {"Inference-Header-Content-Length": str(size)}
    return _outcome(target.post(f"/v2/models/{target.model}/infer", body, headers))


def _long_text(target: _Target, rng: random.Random) -> str:
    """Texts of up to 100 MB, and embeddings that are not finite."""
    if rng.random() < 0.5:
        values = np.ones((rng.choice((1, 64)), _DIM), np.float32)
        values[rng.randrange(len(values)), rng.randrange(_DIM)] = rng.choice((np.nan, np.inf, -np.inf, 3e38))
        entry = {"name": "EMBEDDING", "shape": list(values.shape), "datatype": "FP32",
                 "parameters": {"binary_data_size": values.nbytes}}  # fmt: skip
        return _send(target, {"inputs": [entry]}, values.tobytes(), rng)
    size = rng.choice((1 << 16, 1 << 20, 1 << 20, 10 << 20, *((100 << 20,) if rng.random() < 0.2 else ())))
    content = struct.pack("<I", size) + (rng.randbytes(64) * (size // 64 + 1))[:size]
    entry = {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}
    return _send(target, {"inputs": [entry]}, content, rng)


def _grpc_bytes(target: _Target, rng: random.Random) -> str:
    """gRPC messages whose tensors lie, or whose bytes are no message."""
    import grpc
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name=target.model)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        shape = [rng.choice((1, 1, _DIM, *_HUGE)) for _ in range(rng.choice((0, 1, 2, 2, 9)))]
        message.inputs.add(name=rng.choice(_NAMES[:4]), datatype=rng.choice(_TYPES), shape=shape)
        if rng.random() < 0.8:
            message.raw_input_contents.append(rng.choice((b"", b"\x03\0\0\0abc", b"\xff\xff\xff\xff", bytes(4 * _DIM))))
        else:
            message.inputs[-1].contents.bytes_contents.append(b"abc")
    content = bytearray(message.SerializeToString())
    if rng.random() < 0.4 and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    with grpc.insecure_channel(f"127.0.0.1:{target.server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda sent: sent, lambda got: got)
        try:
            call(bytes(content), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                return "refused"
            raise AssertionError("a gRPC request was not answered") from error
    return "answered"


def _shared_memory(target: _Target, rng: random.Random) -> str:
    """Regions that are too small, not known, gone, or whose content changes while it is read."""
    name = f"routellm_attack_{os.getpid()}_{rng.randrange(1 << 30)}"
    place = Path("/dev/shm") / name
    size = rng.choice((4, 64, 4096, 1 << 20))
    content = bytearray(struct.pack("<I", size - 4) + (b"prove the " * size)[: size - 4])
    is_sound = rng.random() < 0.5  # but for the text that changes
    if not is_sound and rng.random() < 0.4:
        content[:4] = struct.pack("<I", rng.choice((0, size, 1 << 20, (1 << 32) - 1)))
    place.write_bytes(content)
    said = size if is_sound else rng.choice((size, size, size // 2, size + 1, size * 2, 1 << 40, 0))
    stop = threading.Event()

    def change() -> None:
        # Never shorter: a region that shrinks ends the server itself.
        with place.open("r+b", buffering=0) as file:
            texts = [("\u4e2d" * size).encode(), b"\xf0\x9f" * size, b"a" * size, b"\xff" * size]
            while not stop.is_set():
                for text in texts:
                    file.seek(4 if is_sound else 0)
                    file.write(text[: size - 4])

    def region(what: str, body: dict[str, Any]) -> tuple[int, bytes]:
        return target.post(f"/v2/systemsharedmemory/region/{name}/{what}", json.dumps(body).encode())

    changer = threading.Thread(target=change)
    try:
        if is_sound or rng.random() < 0.9:
            offset = 0 if is_sound else rng.choice((0, 0, 0, 8, 1 << 40))
            region("register", {"key": f"/{name}", "offset": offset, "byte_size": said})
        if rng.random() < 0.2:
            place.unlink()
        elif size > 4:
            changer.start()
        rows, length, start = 1, size, 0
        if not is_sound:
            rows, length = rng.choice((1, 1, 2)), rng.choice((said, size, 1 << 40))
            start = rng.choice((0, 0, 0, 4, 1 << 62))
        shared = {"shared_memory_region": name, "shared_memory_byte_size": length, "shared_memory_offset": start}
        request: dict[str, Any] = {
            "inputs": [{"name": "PROMPT", "shape": [rows, 1], "datatype": "BYTES", "parameters": shared}]
        }
        if not is_sound and rng.random() < 0.3:
            shared |= {"shared_memory_byte_size": rng.choice((0, 1, 4, size, said))}
            request = _question("prove the") | {"outputs": [{"name": "MODEL", "parameters": shared}]}
        for _ in range(10):
            found = _outcome(target.post(f"/v2/models/{target.model}/infer", json.dumps(request).encode()))
        return found
    finally:
        stop.set()
        if changer.is_alive():
            changer.join()
        region("unregister", {})
        place.unlink(missing_ok=True)


def _rude_client(target: _Target, rng: random.Random) -> str:
    """Connections that hang up, or send part of a request and wait."""
    body = json.dumps(_question("prove the " * rng.choice((1, 100_000)))).encode()
    head = f"POST /v2/models/{target.model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    held = []
    for _ in range(rng.choice((1, 5, 40))):
        with contextlib.suppress(OSError):
            client = socket.create_connection(("127.0.0.1", target.server.http_port), timeout=_TIMEOUT_S)
            held.append(client)
            whole = head + body
            client.sendall(whole[: rng.randrange(len(whole) + 1)])
            if rng.random() < 0.5:
                # A reset, not an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
    target.check(rng)
    for client in held:
        client.close()
    return "hung up"


def _few_files(target: _Target, rng: random.Random) -> str:
    """More connections than the server may have open files."""
    pid = target.server.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    held = []
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + rng.randrange(12), usual[1]))
        for _ in range(24):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", target.server.http_port), timeout=_TIMEOUT_S))
        time.sleep(0.05)
        assert target.server.is_running(), "the server ended where it could open no more files"
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        for client in held:
            client.close()
    return "done"


def _send(target: _Target, request: dict[str, Any], content: bytes, rng: random.Random) -> str:
    head = json.dumps(request).encode()
    size = len(head) if rng.random() < 0.9 else rng.choice((0, 1, len(head) - 1, len(head) + len(content) + 1))
    headers = {"Inference-Header-Content-Length": str(size)} if content or size != len(head) else {}
    return _outcome(target.post(f"/v2/models/{target.model}/infer", head + content, headers))


def _outcome(answer: tuple[int, bytes]) -> str:
    status, body = answer
    if status == 200:
        return "answered"
    assert 400 <= status < 600, f"status {status}"
    assert b"error" in body or not body, f"an error without a text: {body[:200]!r}"
    return "refused"


_REQUESTS: Final[tuple[Callable[[_Target, random.Random], str], ...]] = (
    _lying_bytes, _wrong_tensors, _wrong_json, _long_text, _grpc_bytes, _shared_memory, _rude_client, _few_files,
)  # fmt: skip


def _requests(campaign: Campaign, model: str = "mf") -> None:
    with _served(campaign) as (server, _, router):
        target, rng = _Target(server, model, router), campaign.rng
        level = 0
        for number in range(campaign.count):
            ask = _REQUESTS[number % len(_REQUESTS)]
            try:
                found = ask(target, rng)
            except (OSError, http.client.HTTPException) as error:
                # The front end may close the connection over what is no HTTP; it must go on all the same.
                found = f"the connection was closed ({type(error).__name__})"
            assert server.is_running(), f"the server ended after {ask.__name__[1:]}:\n{server.log()[-3000:]}"
            campaign.tally[f"{ask.__name__[1:].replace('_', ' ')}: {found}"] += 1
            target.check(rng)
            if number == campaign.count // 3:
                level = target.resident_bytes()
        grown = target.resident_bytes() - level
        assert campaign.count < 50 or grown < _GROWTH_BYTES, f"the server grew by {grown >> 20} MiB"
        campaign.tally["MiB of memory more after the last two thirds"] = max(0, grown >> 20)


# A repository that changes under the server.


def _change_repository(folder: Path, spare: Path, rng: random.Random) -> str:
    """Change a model's folder as a careless deployment would; return whether a server may still load it."""
    router = folder / "1" / "router"
    what = rng.randrange(8)
    if what == 0:  # replaced in one step, as `save` does it
        staged = folder / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(spare, staged)
        shutil.rmtree(router, ignore_errors=True)
        staged.rename(router)
        return "replaced"
    files = sorted(path for path in router.rglob("*") if path.is_file()) if router.is_dir() else []
    if not files:
        shutil.rmtree(router, ignore_errors=True)
        shutil.copytree(spare, router)
        return "replaced"
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    other = file.with_name("other")
    if what == 1:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        other.write_bytes(content)
        other.rename(file)
        return "a flipped bit"
    if what == 2:
        other.write_bytes(content[: rng.randrange(len(content))])
        other.rename(file)
        return "a cut file"
    if what == 3:
        file.unlink()
        return "a file gone"
    if what == 4:
        shutil.rmtree(router)
        return "the router gone"
    if what == 5:
        (folder / "2" / "router").mkdir(parents=True, exist_ok=True)
        (folder / "2" / "router" / "router.json").write_bytes(rng.choice((b"", b"{}", b"\xff", content[:100])))
        return "a broken version 2"
    if what == 6:
        (folder / "config.pbtxt").write_bytes(rng.choice((b"", b"name: 7", rng.randbytes(80), b'backend: "routellm"')))
        return "another configuration"
    shutil.rmtree(folder / "2", ignore_errors=True)
    shutil.copytree(spare, folder / "2" / "router", dirs_exist_ok=True)
    return "a sound version 2"


def _repository(campaign: Campaign) -> None:
    with _served(campaign) as (server, repository, router):
        target, changing, rng = _Target(server, "mf", router), _Target(server, "other", router), campaign.rng
        spare = campaign.folder / "spare"
        shutil.copytree(repository / "other" / "1" / "router", spare)
        configuration = (repository / "other" / "config.pbtxt").read_bytes()
        stop = threading.Event()
        faults: list[str] = []

        def beside() -> None:
            mine = random.Random(campaign.count)
            while not stop.is_set() and not faults:
                try:
                    target.check(mine)
                except (AssertionError, OSError, http.client.HTTPException) as error:
                    faults.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=beside)
        thread.start()
        try:
            for _ in range(campaign.count):
                what = _change_repository(repository / "other", spare, rng)
                verb = rng.choice(("load", "load", "load", "unload"))
                status, _ = target.post(f"/v2/repository/models/other/{verb}", b"{}")
                campaign.tally[f"{what}: {verb} {'done' if status == 200 else 'refused'}"] += 1
                assert server.is_running(), f"the server ended after {what}:\n{server.log()[-3000:]}"
                # What is served still, the old or the new, has the bits of the one router that there is.
                status, _ = changing.post("/v2/models/other/infer", json.dumps(_question("hello")).encode())
                if status == 200:
                    changing.check(rng)
                if rng.random() < 0.4:
                    (repository / "other" / "config.pbtxt").write_bytes(configuration)
                    shutil.rmtree(repository / "other" / "2", ignore_errors=True)
                assert not faults, faults[0]
        finally:
            stop.set()
            thread.join()
        assert not faults, faults[0]


ATTACKS = [
    Attack(
        name="requests to a Triton server",
        tried="a real server with the native backend gets a request whose lengths, shapes, types, texts, shared "
        "memory or connection lie, over HTTP or gRPC, then a good one.",
        held="the server lives, the good request gets the bits that the router gives alone, the bad one an error or a "
        "sound answer, and the server's memory stays at its level.",
        unit="requests",
        whole=4_000,
        brief=56,
        run=_requests,
    ),
    Attack(
        name="requests to Triton's Python backend",
        tried="the same, to a router that runs in the server's Python backend.",
        held="the same.",
        unit="requests",
        whole=1_600,
        brief=16,
        run=lambda campaign: _requests(campaign, "python"),
    ),
    Attack(
        name="a Triton model repository that changes",
        tried="files of a model are replaced, flipped, cut, removed, or joined by another version, and the server "
        "loads or unloads it, while good requests go to another model.",
        held="the server lives, every good request gets the right bits, and what does not load is refused.",
        unit="changes",
        whole=1_500,
        brief=10,
        run=_repository,
    ),
]
