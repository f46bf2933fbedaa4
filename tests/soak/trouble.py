"""What goes wrong around the gateway meanwhile: servers of models are killed, settings change, some are broken."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.soak.mixture import MOST_BODY_BYTES

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_START_S: Final = 60.0


class ModelServer:
    """A server of models in a process of its own, which can be killed and started again on the same port."""

    def __init__(self) -> None:
        self.port = _port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        for _ in range(20):
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.upstream", "--port", str(self.port),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_REPOSITORY,
            )  # fmt: skip
            assert self._process.stdout is not None
            if await asyncio.wait_for(self._process.stdout.readline(), _START_S):
                return
            await self._process.wait()
            await asyncio.sleep(0.1)
        raise AssertionError(f"a server of models could not be started on port {self.port}")

    async def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


class Trouble:
    """Makes trouble, each time when so many more requests were sent."""

    def __init__(
        self, servers: tuple[ModelServer, ModelServer], config: Path, rng: random.Random, sent: Callable[[], int]
    ) -> None:
        self._servers, self._config, self._rng, self._sent = servers, config, rng, sent
        self.happened: Counter[str] = Counter()

    async def killing(self, every: int) -> None:
        """Kill one of the servers again and again, and start it a little later."""
        due = every
        while True:
            await self._until_sent(due)
            server = self._rng.choice(self._servers)
            await server.kill()
            self.happened["servers of models killed and started again"] += 1
            await asyncio.sleep(self._rng.choice((0.0, 0.2, 1.0)))
            await server.start()
            due = max(due, self._sent()) + every

    async def changing(self, every: int) -> None:
        """Change the settings again and again; every fourth file is broken."""
        due = every
        while True:
            await self._until_sent(due)
            is_broken = (self.happened["settings changed"] + self.happened["settings broken"]) % 4 == 3
            self.change(is_broken=is_broken)
            # The gateway looks once a second: a change that comes sooner may stand for two.
            await asyncio.sleep(1.5)
            due = max(due, self._sent()) + every

    def change(self, *, is_broken: bool = False) -> None:
        """Write other settings, or some that are broken."""
        text = settings_of(self._servers, self._rng)
        if is_broken:
            text = self._rng.choice(
                (
                    text.replace("strong:", "storng:"),
                    text[: len(text) // 2] + "{",
                    "",
                    text.replace("small,", "nobody,"),
                )
            )
        if self._rng.random() < 0.5:
            self._config.write_text(text, encoding="utf-8")
        else:
            part = self._config.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(self._config)
        self.happened["settings broken" if is_broken else "settings changed"] += 1

    async def _until_sent(self, count: int) -> None:
        while self._sent() < count:
            await asyncio.sleep(0.02)


def settings_of(servers: tuple[ModelServer, ModelServer], rng: random.Random) -> str:
    """Return a gateway's settings with these servers, the rest drawn at random."""
    silence_s = rng.choice((20, 30, 40))  # another value makes other connections
    return f"""\
upstreams:
  one: {{base_url: {servers[0].url}, silence_timeout_s: {silence_s}}}
  two: {{base_url: {servers[1].url}}}
models:
  big: {{upstream: one, input_usd_per_1m: 10, output_usd_per_1m: 30}}
  small: {{upstream: two, input_usd_per_1m: 0.1, output_usd_per_1m: 0.4}}
routers:
  mf: {{strong: big, weak: small, threshold: {rng.choice((0.1, 0.3, 0.5, 0.9))}}}
aliases: {{auto: router-mf}}
on_failure: {{retries: {rng.choice((0, 1, 2))}, backoff_s: 0.01, other_model: {rng.choice(("true", "false"))},
             breaker_failures: {rng.choice((5, 20))}, breaker_open_s: 0.5}}
mirror: {{share: {rng.choice((0.0, 0.02))}}}
limits: {{max_body_bytes: {MOST_BODY_BYTES}, shutdown_s: 20}}
log: {{requests: false}}
"""


def _port() -> int:
    """Return a free port that no outgoing connection is given while nobody listens on it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for port in random.SystemRandom().sample(range(lowest - 10_000, lowest), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")
