"""One worker process of the gateway: makes what answers requests from the settings, and again when these change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from routellm_fast.errors import RouteLLMError
from routellm_fast.gateway.live import Live
from routellm_fast.gateway.making import Lasting, make_live
from routellm_fast.gateway.settings import Settings
from routellm_fast.gateway.settings_file import read_settings
from routellm_fast.gateway.upstream import Upstream

_LOOK_EVERY_S: Final = 1.0
# What is made once, when the process starts.
_FIXED: Final = ("listen", "log", "state_dir")
_log: Final = logging.getLogger("routellm_fast.gateway")


class Watched(NamedTuple):
    """A settings file, and what it was like before it was read: a change while it was read is then seen, too.

    Attributes:
        path: The file.
        stamp: What changes whenever it does; None where there is no file.
    """

    path: Path
    stamp: tuple[int, int, int] | None

    @classmethod
    def now(cls, path: Path) -> Watched:
        """Look at a file."""
        return cls(path, _stamp(path))


class Runtime:
    """The settings in force, reloaded when their file changes. Belongs to one event loop once it has started.

    A file that is broken changes nothing: the settings before it stay in force, and `complaint` says what is wrong.
    """

    def __init__(self, settings: Settings, lasting: Lasting, *, watched: Watched | None = None) -> None:
        """Load the routers.

        Args:
            settings: The settings to start with.
            lasting: What outlives a reload.
            watched: The file that is watched; None watches none.

        Raises:
            RouteLLMError: A router cannot be loaded, or a key is missing.
        """
        self._lasting, self._watched = lasting, watched
        self._live = make_live(settings, lasting, {})
        self._retiring: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self.complaint = ""
        self.reloads = self.failed_reloads = 0

    def live(self) -> Live:
        """Return what answers requests now."""
        return self._live

    async def start(self) -> None:
        """Open the upstreams, and watch the file."""
        for upstream in self._live.upstreams.values():
            await upstream.open()
        if self._watched is not None:
            self._watch = asyncio.get_running_loop().create_task(self._watching(self._watched))

    async def stop(self) -> None:
        """Close everything. No request is under way."""
        tasks = [*self._retiring, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for upstream in self._live.upstreams.values():
            await upstream.close()

    async def reload(self, path: Path) -> bool:
        """Read the file and put it in force; return whether it could be."""
        old = self._live
        try:
            new = await asyncio.to_thread(self._made, path, old)
        except RouteLLMError as error:
            self.failed_reloads += 1
            self.complaint = str(error)
            _log.error("the settings before stay in force: %s", error)
            return False
        changed = [name for name in _FIXED if getattr(new.settings, name) != getattr(old.settings, name)]
        if changed:
            _log.warning("restart the gateway to change %s: what was given at its start holds", ", ".join(changed))
        fresh = [upstream for name, upstream in new.upstreams.items() if old.upstreams.get(name) is not upstream]
        for upstream in fresh:
            await upstream.open()
        self._live = new
        self.reloads += 1
        self.complaint = ""
        _log.info("the settings were read again: %s", path)
        gone = [upstream for name, upstream in old.upstreams.items() if new.upstreams.get(name) is not upstream]
        task = asyncio.get_running_loop().create_task(_retire(old, gone, tuple(self._retiring)))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return True

    def _made(self, path: Path, old: Live) -> Live:
        return make_live(read_settings(path), self._lasting, old.upstreams)

    async def _watching(self, watched: Watched) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = Watched.now(watched.path)
            if now != watched:
                watched = now
                await self.reload(now.path)


async def _retire(old: Live, upstreams: Sequence[Upstream], earlier: Sequence[asyncio.Task[None]]) -> None:
    """Close what only the old settings, and others before them, used, once their last request has ended."""
    await asyncio.gather(*earlier, return_exceptions=True)
    await old.idle()
    for upstream in upstreams:
        with contextlib.suppress(Exception):
            await upstream.close()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
