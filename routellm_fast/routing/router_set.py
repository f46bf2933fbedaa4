"""Routers by name, what a model's name such as `router-mf-0.116` asks of them, and decisions from event loops."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from routellm_fast.decision import Decision, NoText
from routellm_fast.errors import InvalidArgumentError, RoutingError
from routellm_fast.routing.protocol import RoutesPrompts

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_PREFIX: Final = "router-"
# Threads that wait for servers cost little; those that compute share the cores whatever their number.
_THREADS: Final = 16


class RouterName(NamedTuple):
    """What a model's name asks for.

    Attributes:
        router: The router's name in its set.
        threshold: In [0, 1]; None for the router's calibrated default.
    """

    router: str
    threshold: float | None


class RouterSet(Mapping[str, RoutesPrompts]):
    """Routers by name. Immutable and thread-safe, and usable from any number of event loops.

    It is a mapping: `routers["mf"]` is the router.
    """

    def __init__(self, routers: Mapping[str, RoutesPrompts], *, threads: int = _THREADS) -> None:
        """Keep the routers.

        Args:
            routers: The routers by name, at least one. A name may hold hyphens.
            threads: The most threads for each router that `adecide` cannot ask at once: so many of its prompts are
                scored at a time, and a slow router takes no thread from another.

        Raises:
            InvalidArgumentError: There is none, a name is empty, or threads is no positive integer.
            TypeError: A value has not the face of a router.
        """
        self._routers = dict(routers)
        if not self._routers:
            raise InvalidArgumentError("a set of routers has at least one")
        if type(threads) is not int or threads < 1:
            raise InvalidArgumentError(f"threads is a positive integer, found {threads!r}")
        for name, router in self._routers.items():
            if not (isinstance(name, str) and name):
                raise InvalidArgumentError(f"a router's name is a text, found {name!r}")
            lacking = [method for method in ("route", "win_rates") if not callable(getattr(router, method, None))]
            if lacking or isinstance(router, type):
                raise TypeError(
                    f"router {name!r} is {type(router).__name__}, which has no {' and no '.join(lacking) or 'state'}: "
                    "give a Router, a TritonRouter, or a FunctionRouter around a function of your own"
                )
        self._at_once = frozenset(
            name for name, router in self._routers.items() if getattr(router, "answers_at_once", False)
        )
        self._longest_first = sorted(self._routers, key=len, reverse=True)
        self._threads = threads
        self._pools = _Pools()

    @property
    def names(self) -> tuple[str, ...]:
        """The routers' names, in the order in which they were given."""
        return tuple(self._routers)

    def __getitem__(self, name: str) -> RoutesPrompts:
        return self._routers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._routers)

    def __len__(self) -> int:
        return len(self._routers)

    def __repr__(self) -> str:
        """The routers."""
        return f"RouterSet({self._routers!r})"

    # --- names

    @staticmethod
    def is_router_name(model: str) -> bool:
        """Tell whether a model's name is meant to be a router's: those of all others are none of `parse`'s business."""
        return model.startswith(_PREFIX)

    def parse(self, model: str) -> RouterName:
        """Return what a model's name asks for: `router-mf-0.116`, or `router-mf` for the router's default threshold.

        Where several routers' names fit, the longest counts. Errors have the texts of RouteLLM's Controller.

        Raises:
            RoutingError: It names no router of this set, or a threshold that is none.
            TypeError: The name is not str.
        """
        if not isinstance(model, str):
            raise TypeError(f"a model's name is str, found {type(model).__name__}")
        prefix, _, rest = model.partition("-")
        if not prefix.startswith("router"):
            rest = ""
        if rest in self._routers:
            return RouterName(rest, None)
        fitting = [(name, rest[len(name) + 1 :]) for name in self._longest_first if rest.startswith(f"{name}-")]
        for name, text in fitting:
            if (threshold := _number(text)) is not None:
                return self.checked(name, threshold)
        if fitting:
            raise RoutingError(f"Threshold {fitting[0][1]} must be a float.")
        # No name fits: the fault is what RouteLLM finds, which takes a router's name to be without hyphens.
        parts = model.split("-", 2)
        if len(parts) == 3:
            found = _number(parts[2])
            if found is None:
                raise RoutingError(f"Threshold {parts[2]} must be a float.")
            if rest:
                return self.checked(parts[1], found)
        elif rest:
            return self.checked(rest, 0.0)
        raise RoutingError(
            f"Invalid model {model}. Model name must be of the format 'router-[router name]-[threshold]."
        )

    def checked(self, router: str | None, threshold: float | None) -> RouterName:
        """Return a router's name and a threshold that were given apart.

        Raises:
            RoutingError: One of them is missing, the router is unknown, or the threshold is outside [0, 1] or NaN.
        """
        if router is None or threshold is None:
            raise RoutingError("Router or threshold unspecified.")
        if router not in self._routers:
            raise self._unknown(router)
        if not 0 <= threshold <= 1:
            raise RoutingError(f"Invalid threshold {threshold}. Threshold must be a float between 0.0 and 1.0.")
        return RouterName(router, threshold)

    def _unknown(self, router: str) -> RoutingError:
        return RoutingError(f"Invalid router {router}. Available routers are {list(self._routers)}.")

    # --- decisions

    def decide(self, text: str, name: RouterName, *, no_text: NoText = "strong") -> Decision:
        """Return the decision on a text, made in this thread.

        Args:
            text: The text that is routed on; `routellm_fast.prompt.text_of` takes it from a chat.
            name: The router and the threshold.
            no_text: What a text without anything to be seen gets; see Router.route.

        Raises:
            RoutingError: The router is none of this set.
            InvalidArgumentError: No threshold is given, and the router is not calibrated.
            RouteLLMError: Of the router itself: its embedder or its server does not answer, and the like.
        """
        return self._router(name).route(text, name.threshold, no_text=no_text)

    async def adecide(self, text: str, name: RouterName, *, no_text: NoText = "strong") -> Decision:
        """Return `decide`'s decision without keeping the running event loop.

        A router that answers in microseconds is asked in place; TritonRouter, and any other that has `aroute`, by that;
        all others in a thread of their own pool. A call that is cancelled while a thread scores leaves that thread to
        end by itself.
        """
        router = self._router(name)
        if name.router in self._at_once:
            return router.route(text, name.threshold, no_text=no_text)
        aroute: Any = getattr(router, "aroute", None)
        if aroute is not None:
            decision: Decision = await aroute(text, name.threshold, no_text=no_text)
            return decision
        import asyncio  # here, as programs without event loops need it not
        import contextvars
        import functools

        ask = functools.partial(router.route, text, name.threshold, no_text=no_text)
        context = contextvars.copy_context()
        pool = self._own_pools().of(name.router, self._threads)
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(ask))

    def _own_pools(self) -> _Pools:
        # Of a process that was forked, the threads stay with its parent, and so may a lock that one of them held.
        if self._pools.process != os.getpid():
            self._pools = _Pools()
        return self._pools

    def _router(self, name: RouterName) -> RoutesPrompts:
        try:
            return self._routers[name.router]
        except KeyError:
            raise self._unknown(name.router) from None

    def close(self) -> None:
        """End the threads, once they are done with what they score, and close routers that have connections.

        For when nothing is asked any more: a call that begins meanwhile may fail. A set that nobody refers to ends its
        threads by itself.
        """
        self._own_pools().close()
        for router in self._routers.values():
            close: Any = getattr(router, "close", None)
            if close is not None:
                close()


class _Pools:
    """Threads of each router, started when they are first needed, in this process."""

    def __init__(self) -> None:
        self.process, self._lock = os.getpid(), threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def of(self, name: str, threads: int) -> ThreadPoolExecutor:
        """Return a router's pool."""
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if name not in self._pools:
                self._pools[name] = ThreadPoolExecutor(threads, thread_name_prefix=f"routellm-fast {name}")
            return self._pools[name]

    def close(self) -> None:
        """Take no more work; `of` makes new pools."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown(wait=False)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
