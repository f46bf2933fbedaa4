"""One Triton server as a client sees it, over HTTP or gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from routellm_fast.errors import InvalidArgumentError, TritonRefusedError
from routellm_fast.extras import require
from routellm_fast.serving._triton_http import MOST_ANSWER_BYTES, BoundedSession, UnfitAnswer

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA: Final = "triton"
_SCHEMES: Final[Mapping[str, tuple[str, bool]]] = {
    "http": ("http", False),
    "https": ("http", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
_REFUSED: Final = ("400", "413", "StatusCode.INVALID_ARGUMENT", "StatusCode.OUT_OF_RANGE")
_TRITON_TYPES: Final[Mapping[str, str]] = {"O": "BYTES", "f": "FP32"}


class ReplicaFault(Exception):  # noqa: N818 - not one of this package's errors: it never leaves the client
    """A replica did not answer, or not as a sound one: another may."""


class Replica:
    """A server by its URL. Belongs to one event loop, in which its connections are made when they are first needed."""

    def __init__(self, url: str) -> None:
        """Read the URL.

        Raises:
            InvalidArgumentError: It is none of http, https, grpc or grpcs with a host, or has a part that is not sent.
            MissingExtraError: tritonclient is not installed.
        """
        self._kind, self._has_tls, self._address = _read_url(url)
        self.url = url
        self._api = require(f"tritonclient.{self._kind}.aio", EXTRA)
        self._error = require("tritonclient.utils", EXTRA).InferenceServerException
        self._open: Any = None
        # Shared memory is registered once, whoever asks first.
        self.lock = asyncio.Lock()
        self.failed_at_s: float | None = None

    async def infer(
        self,
        model: str,
        version: str,
        tensors: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        shared: tuple[str, str, int, tuple[int, int]] | None = None,
    ) -> dict[str, NDArray[Any] | None]:
        """Run a model.

        Args:
            model: The model's name.
            version: The model's version; "" for the server's choice.
            tensors: Inputs: float32, or objects of bytes.
            outputs: Names of the outputs wanted.
            shared: An input in a region that the server knows: (input, region, offset in bytes, shape of float32).

        Raises:
            TritonRefusedError: The request is wrong.
            ReplicaFault: No answer.
        """
        inputs = []
        for name, values in tensors.items():
            entry = self._api.InferInput(name, list(values.shape), _TRITON_TYPES[values.dtype.kind])
            entry.set_data_from_numpy(values)
            inputs.append(entry)
        if shared is not None:
            name, region, offset, shape = shared
            entry = self._api.InferInput(name, list(shape), "FP32")
            entry.set_shared_memory(region, shape[0] * shape[1] * 4, offset=offset)
            inputs.append(entry)
        wanted = [self._api.InferRequestedOutput(name) for name in outputs]
        found = await self._call("infer", model, inputs, model_version=version, outputs=wanted)
        return {name: found.as_numpy(name) for name in outputs}

    async def config(self, model: str, version: str) -> dict[str, Any]:
        """Return a model's configuration in Triton's JSON form. Raises as infer."""
        as_json = {"as_json": True} if self._kind == "grpc" else {}
        found: dict[str, Any] = await self._call("get_model_config", model, version, **as_json)
        inner: dict[str, Any] = found.get("config", found)
        return inner

    async def register(self, region: str, key: str, byte_count: int) -> None:
        """Tell the server of a region of system shared memory. Raises as infer."""
        await self._call("register_system_shared_memory", region, key, byte_count)

    async def unregister(self, region: str) -> None:
        """Have the server forget a region. Raises as infer."""
        await self._call("unregister_system_shared_memory", region)

    async def close(self) -> None:
        """Close the connections; they are made anew where they are needed again."""
        client, self._open = self._open, None
        if client is not None:
            await client.close()

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return await getattr(self._client(), method)(*arguments, **options)
        except self._error as error:
            status, text = str(error.status()), str(error.message())
            if status in _REFUSED:
                raise TritonRefusedError(f"{self.url} refuses the request: {text}") from error
            raise ReplicaFault(f"{text} ({status})") from error
        except asyncio.CancelledError:
            raise
        except UnfitAnswer as error:
            raise ReplicaFault(f"answered {error}") from None
        except Exception as error:
            # aiohttp and grpc have families of their own; a bad argument of ours would be found by the tests.
            raise ReplicaFault(f"{type(error).__name__}: {error}") from error

    def _client(self) -> Any:
        if self._open is None:
            # The client has its own deadline for all that it does, ours is shorter or longer: it is set aside.
            limits = {"conn_timeout": None} if self._kind == "http" else {"channel_args": self._channel_arguments()}
            client = self._api.InferenceServerClient(self._address, ssl=self._has_tls, **limits)
            if self._kind == "http":
                # Its one attribute that sends: no argument tells it to follow no redirect, and to bound what it reads.
                client._stub = BoundedSession(client._stub)  # noqa: SLF001
            self._open = client
        return self._open

    def _channel_arguments(self) -> list[tuple[str, int]]:
        """Return the settings that the client would choose, but for the size of answers."""
        alive = self._api.KeepAliveOptions()
        return [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", MOST_ANSWER_BYTES),
            ("grpc.keepalive_time_ms", alive.keepalive_time_ms),
            ("grpc.keepalive_timeout_ms", alive.keepalive_timeout_ms),
            ("grpc.keepalive_permit_without_calls", alive.keepalive_permit_without_calls),
            ("grpc.http2.max_pings_without_data", alive.http2_max_pings_without_data),
        ]


def _read_url(url: str) -> tuple[str, bool, str]:
    """Return the protocol, whether there is TLS, and the address as tritonclient takes it: host, port and path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise InvalidArgumentError(
            f"{url!r}: expected http://host:port or grpc://host:port, https and grpcs with TLS; http may have a path"
        )
    kind, has_tls = _SCHEMES[parts.scheme]
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment:
        raise InvalidArgumentError(f"{url!r}: a query or fragment is not sent to a Triton server: leave it out")
    if path and kind == "grpc":
        raise InvalidArgumentError(f"{url!r}: gRPC has no paths: give the host and port alone, or an http URL")
    host = parts.netloc.removesuffix(":")
    if kind == "grpc" and port is None:  # its library would take 443 without TLS too
        host = f"{host}:{443 if has_tls else 80}"
    return kind, has_tls, f"{host}{path}"
