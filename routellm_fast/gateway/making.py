"""Makes what answers requests from settings: loads routers, reads keys, and keeps what should outlive a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_fast.decision import checked_pair
from routellm_fast.errors import DataError, RouteLLMError
from routellm_fast.gateway.budget import Budget
from routellm_fast.gateway.choosing import Chooser
from routellm_fast.gateway.live import Live
from routellm_fast.gateway.sessions import Sessions
from routellm_fast.gateway.settings import ModelSettings, RouterSettings, Settings
from routellm_fast.gateway.upstream import Upstream
from routellm_fast.pool import ModelPool, PoolModel
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.routing import RouterSet, RoutesPrompts, load_routers, open_router

# A pool weighs the models' prices against one another for a request of this length.
_POOL_TOKENS: Final = (500.0, 300.0)


@dataclass(slots=True)
class Lasting:
    """What outlives a reload.

    Attributes:
        state_dir: Where it is kept on disk.
        sessions: Which model each conversation went to; None before the first settings.
        budgets: The budgets by router.
    """

    state_dir: Path
    sessions: Sessions | None = None
    budgets: dict[str, Budget] = field(default_factory=dict)

    def close(self) -> None:
        """Write what is not written yet."""
        if self.sessions is not None:
            self.sessions.close()
        for budget in self.budgets.values():
            budget.close()


def make_live(settings: Settings, lasting: Lasting, upstreams: Mapping[str, Upstream]) -> Live:
    """Return what answers requests under these settings. Takes as long as loading the routers: call it in a thread.

    Args:
        settings: The settings.
        lasting: What outlives a reload; gets what these settings need.
        upstreams: The upstreams so far, which are kept where nothing about them changed.

    Raises:
        RouteLLMError: A router cannot be loaded, or a key is missing; the text names which.
    """
    servers = {name: _upstream(name, settings, upstreams.get(name)) for name in settings.upstreams}
    routers: dict[str, RoutesPrompts] = {}
    pools: dict[str, ModelPool] = {}
    for name, router_settings in settings.routers.items():
        routers[name], pool = _named_router(name, router_settings, settings.models)
        if pool is not None:
            pools[name] = pool
    if lasting.sessions is None:
        lasting.sessions = Sessions(settings.sessions, lasting.state_dir)
    lasting.sessions.settings = settings.sessions
    for name, router_settings in settings.routers.items():
        if router_settings.monthly_budget_usd is not None and name not in lasting.budgets:
            lasting.budgets[name] = Budget(name, lasting.state_dir)
    router_set = RouterSet(routers)
    chooser = Chooser(settings, router_set, pools, lasting.sessions, lasting.budgets)
    return Live(settings, router_set, chooser, servers)


def _upstream(name: str, settings: Settings, known: Upstream | None) -> Upstream:
    try:
        fresh = Upstream(name, settings.upstreams[name], settings.on_failure)
    except RouteLLMError as error:
        raise DataError(f"upstreams.{name}: {error}") from error
    return known if known is not None and known.is_like(fresh) else fresh


def _named_router(
    name: str, settings: RouterSettings, models: Mapping[str, ModelSettings]
) -> tuple[RoutesPrompts, ModelPool | None]:
    try:
        router = _router(name, settings)
        return router, None if settings.pool is None else _pool(settings, router, models)
    except RouteLLMError as error:
        raise DataError(f"routers.{name}: {error}") from error


def _router(name: str, settings: RouterSettings) -> RoutesPrompts:
    pair = checked_pair(settings.strong, settings.weak) if settings.strong and settings.weak else None
    if not isinstance(settings.source, str):
        return load_routers({name: settings.source}, model_pair=pair)[name]
    return open_router(
        settings.source,
        model_pair=pair,
        digest=settings.digest,
        allow_server=settings.allow_server,
        triton_model=settings.triton_model,
    )


def _pool(settings: RouterSettings, router: RoutesPrompts, models: Mapping[str, ModelSettings]) -> ModelPool:
    assert settings.pool is not None  # noqa: S101 - asked for pools only
    if not isinstance(router, MatrixFactorizationRouter):
        raise DataError(f"a pool needs a router of kind mf, found {router.kind}")
    input_tokens, output_tokens = _POOL_TOKENS
    entries = [
        PoolModel.from_token_prices(
            name,
            input_usd_per_1m=models[name].input_usd_per_1m,
            output_usd_per_1m=models[name].output_usd_per_1m,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            scored_as=scored_as or "",
        )
        for name, scored_as in settings.pool.models.items()
    ]
    return ModelPool(router, entries, best_model=settings.pool.best_model)
