"""Routers by name: what a request's model name asks for, and the decision on its text. No HTTP.

`load_routers` opens routers that ship, router directories, Triton servers and what RouteLLM's configuration names;
`RouterSet` reads names such as `router-mf-0.116` and decides, from threads and from event loops.
"""

from __future__ import annotations

from routellm_fast.routing.function import FunctionRouter
from routellm_fast.routing.loading import load_routers, open_router
from routellm_fast.routing.protocol import RoutesPrompts
from routellm_fast.routing.routellm_config import read_config
from routellm_fast.routing.router_set import RouterName, RouterSet

__all__ = [
    "FunctionRouter",
    "RouterName",
    "RouterSet",
    "RoutesPrompts",
    "load_routers",
    "open_router",
    "read_config",
]
