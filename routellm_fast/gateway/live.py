"""The settings in force, and all that was made from them: routers, upstreams, the one who chooses.

A reload makes a new `Live` beside the old one. Requests that are under way keep theirs to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from routellm_fast.gateway.choosing import Chooser
from routellm_fast.gateway.settings import ModelSettings, Settings
from routellm_fast.gateway.upstream import Upstream
from routellm_fast.routing import RouterSet


@dataclass(slots=True, eq=False)
class Live:
    """What answers requests.

    Attributes:
        settings: The settings.
        routers: The routers by name.
        chooser: Who chooses models.
        upstreams: The servers of models by name.
        in_flight: Requests that are under way with this.
    """

    settings: Settings
    routers: RouterSet
    chooser: Chooser
    upstreams: Mapping[str, Upstream]
    in_flight: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def model(self, name: str) -> tuple[ModelSettings, Upstream]:
        """Return a model's settings and its server."""
        settings = self.settings.models[name]
        return settings, self.upstreams[settings.upstream]

    def enter(self) -> None:
        """A request begins."""
        self.in_flight += 1

    def leave(self) -> None:
        """It has ended."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is under way."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
