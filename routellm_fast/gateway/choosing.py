"""Chooses the model of a request: joins rules, routers, pools, sessions and budgets, and says what a failure means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from routellm_fast.decision import DEFAULT_STRONG_SHARE, Decision, has_text
from routellm_fast.errors import (
    EmbedderUnavailableError,
    InvalidArgumentError,
    InvalidThresholdError,
    RouteLLMError,
    RouterFailedError,
    RoutingError,
    UnreachableTargetError,
)
from routellm_fast.gateway.breaker import Breaker
from routellm_fast.gateway.budget import Budget
from routellm_fast.gateway.exchange import Asked, Choice, Exchange, Reason
from routellm_fast.gateway.rules import Rules
from routellm_fast.gateway.sessions import CHARS_PER_TOKEN, Sessions
from routellm_fast.gateway.settings import RouterSettings, Settings
from routellm_fast.pool import ModelPool, PoolDecision, RankedModel
from routellm_fast.routing import RouterName, RouterSet, RoutesPrompts

_LOGGER: Final = logging.getLogger(__name__)
# Faults of something outside, which a breaker keeps the next requests from waiting for. Others may be a request's own.
_OUTAGES: Final = (EmbedderUnavailableError, OSError, TimeoutError, asyncio.TimeoutError)


class _Weighed(NamedTuple):
    """What a pool says of a text.

    Attributes:
        decision: Its choice.
        ranking: All of its models, best first.
        allowed: Those that are good enough.
    """

    decision: PoolDecision
    ranking: tuple[RankedModel, ...]
    allowed: frozenset[str]


@dataclass(slots=True, eq=False)
class _Plan:
    """A router and how it is used.

    Attributes:
        name: Its name.
        settings: Its settings.
        router: The router.
        pool: Its pool; None for two models.
        budget: Its budget; None for none.
        breaker: Keeps requests from waiting for a router that is not there.
        strong: The strong model; of a pool the best one that is named, else the most expensive.
        weak: The weak model; of a pool the cheapest.
        is_quick: Whether it decides in well under a millisecond, so that a thread would only cost time.
        threshold: The threshold, once it is known; stays None with a budget or a pool.
        is_failing: Whether its last decision failed.
    """

    name: str
    settings: RouterSettings
    router: RoutesPrompts
    pool: ModelPool | None
    budget: Budget | None
    breaker: Breaker
    strong: str
    weak: str
    is_quick: bool
    threshold: float | None
    is_failing: bool = False

    def base_threshold(self) -> float:
        """Return the threshold of requests that name none."""
        if self.budget is not None:
            return self.budget.threshold()
        if self.threshold is None:
            share = self.settings.strong_share
            # Asked for once. A router at a server may be there only later.
            self.threshold = self.router.default_threshold if share is None else self.router.threshold_for(share)
        return self.threshold

    def weigh(self, text: str, threshold: float | None) -> Decision | _Weighed:
        """Ask the router, or the pool with the threshold as its tau. Raises whatever they raise."""
        pool, pool_settings = self.pool, self.settings.pool
        if pool is None or pool_settings is None:
            limit = self.base_threshold() if threshold is None else threshold
            return self.router.route(text, limit, no_text=self.settings.no_text)
        tau = pool_settings.tau if threshold is None else threshold
        taus = pool.admission_taus([text])
        (decision,) = pool.decisions(taus, tau)
        names = (model.name for model in pool.models)
        allowed = frozenset(name for name, least in zip(names, taus[0].tolist(), strict=True) if least <= tau)
        return _Weighed(decision, tuple(pool.rankings(taus)[0]), allowed)


class Chooser:
    """Chooses models by the settings. For one event loop; a decision that takes long is made in a thread."""

    def __init__(
        self,
        settings: Settings,
        routers: RouterSet,
        pools: Mapping[str, ModelPool],
        sessions: Sessions | None,
        budgets: Mapping[str, Budget],
    ) -> None:
        """Prepare what each router needs.

        Args:
            settings: The settings.
            routers: The routers by the names in the settings.
            pools: The pools of those routers that have one.
            sessions: Which model each conversation went to, and who made which answer; None: nobody knows.
            budgets: The budgets of those routers that have one. They are told what to keep to.

        Raises:
            InvalidArgumentError: A router has no calibration and its settings no threshold.
            UnreachableTargetError: Its calibration has no threshold for the strong share.
        """
        self._settings, self._routers, self._sessions = settings, routers, sessions
        self._models = settings.models
        self._rules = Rules(settings.rules)
        self._plans = {name: self._plan(name, pools.get(name), budgets.get(name)) for name in settings.routers}

    async def choose(self, asked: Asked) -> Choice:
        """Choose the model of a request.

        A model that is named by itself is taken. For a router's name, what comes first of these decides: the model that
        keeps the answer which the request goes on from; the first rule that holds; the router, with the threshold in
        the name, else that of its settings, of their strong share or budget, or the calibrated default. The prompt
        cache of a conversation moves that threshold (see sessions.py). In shadow mode the strong model is taken in the
        end. A budget whose money is gone leaves only the weak model, but for thresholds in the name.

        What was decided by a rule, by name, or by an earlier answer is never sent to another model: `other` is None.

        Raises:
            RoutingError: There is no such model or router; the text names those that there are.
            InvalidArgumentError: The number in the name is none that the router's pool takes.
            RouterFailedError: The router cannot decide, and the settings say that the request then fails.
        """
        name = self._settings.aliases.get(asked.model, asked.model)
        if name in self._models:
            return Choice(name, None, "named")
        if not self._routers.is_router_name(name):
            raise RoutingError(self._no_such(asked.model))
        router, threshold = self._routers.parse(name)
        plan = self._plans[router]
        if asked.previous_response and self._sessions is not None:
            owner = self._sessions.owner_of(asked.previous_response)
            if owner in self._models and owner is not None:
                return Choice(owner, None, "session", router, is_strong=_is_strong(plan, owner))
        rule = self._rules.first(asked)
        if rule is not None:
            model = {"strong": plan.strong, "weak": plan.weak}.get(rule.use, rule.use)
            return Choice(model, None, "rule", router, rule.name, is_strong=_is_strong(plan, model))
        try:
            weighed = await self._weighed(plan, asked.text, threshold)
        except InvalidThresholdError as error:  # a pool does not take every number
            raise InvalidArgumentError(f"{asked.model}: {error}") from error
        except Exception as error:  # noqa: BLE001 - whatever a router at a server or a foreign embedder comes up with
            return self._fallback(plan, error)
        if plan.is_failing:
            plan.is_failing = False
            _LOGGER.warning("router %s decides again", router)
        if isinstance(weighed, _Weighed):
            return self._of_pool(plan, weighed, asked)
        return self._of_pair(plan, weighed, asked, is_explicit=threshold is not None)

    def answered(self, asked: Asked, exchange: Exchange) -> None:
        """Take note of an answer that has ended: for the next turn of its conversation, and for the budget.

        Args:
            asked: What `choose` was given.
            exchange: The request, with the model that answered, and usage and cost where they are known.
        """
        choice, model = exchange.choice, exchange.model
        if choice is None or exchange.usage is None:
            return
        sessions = self._sessions
        if sessions is not None:
            if asked.conversation:
                sessions.note(asked.conversation, model)
            if exchange.response_id:
                sessions.note_response(exchange.response_id, model)
            if not exchange.usage.is_estimated:
                sessions.note_output(model, exchange.usage.output_tokens)
        plan = self._plans.get(choice.router)
        if plan is not None and plan.budget is not None:
            is_explicit = self._routers.parse(self._settings.aliases.get(asked.model, asked.model))[1] is not None
            is_by_threshold = choice.reason in ("router", "session") and choice.threshold is not None
            plan.budget.note(
                model,
                exchange.cost_usd,
                is_by_threshold=is_by_threshold and not is_explicit and model == choice.model,
            )

    def mirrored(self, exchange: Exchange) -> None:
        """Count for the budget what the other model's answer to a mirrored request cost: `exchange.mirrored`."""
        choice, second = exchange.choice, exchange.mirrored
        plan = None if choice is None else self._plans.get(choice.router)
        if plan is not None and plan.budget is not None and second is not None and second.usage is not None:
            plan.budget.note(second.model, second.cost_usd, is_by_threshold=False)

    # --- two models

    def _of_pair(self, plan: _Plan, decision: Decision, asked: Asked, *, is_explicit: bool) -> Choice:
        is_strong, threshold = decision.is_strong, decision.threshold
        reason: Reason = "router"
        decided = plan.strong if is_strong else plan.weak
        has_no_say = decision.basis == "no_text" and plan.settings.no_text != "score"
        held = self._held(asked)
        if plan.budget is not None and not is_explicit and plan.budget.is_spent:
            is_strong, threshold, decided = False, 1.0, plan.weak
        elif held in (plan.strong, plan.weak) and self._sessions is not None and not has_no_say:
            moved = self._sessions.moved_threshold(
                threshold,
                (plan.strong, self._models[plan.strong]),
                (plan.weak, self._models[plan.weak]),
                is_strong_held=held == plan.strong,
                history_chars=asked.traits.history_chars,
                text_chars=len(asked.text),
            )
            if moved != threshold:  # else the router's own decision holds, which is exact
                threshold, is_strong = moved, decision.win_rate >= moved
            if is_strong != decision.is_strong:
                reason = "session"
        if plan.settings.shadow:
            is_strong, reason = True, "shadow"
        model, other = (plan.strong, plan.weak) if is_strong else (plan.weak, plan.strong)
        return Choice(model, other, reason, plan.name, "", decision.win_rate, threshold, is_strong, decided)

    # --- a pool

    def _of_pool(self, plan: _Plan, weighed: _Weighed, asked: Asked) -> Choice:
        """Take the pool's choice, or the conversation's model where it is good enough and no dearer with its cache."""
        model = decided = weighed.decision.model
        no_text = plan.settings.no_text
        held = self._held(asked)
        if no_text != "score" and not has_text(asked.text):
            model = decided = plan.strong if no_text == "strong" else plan.weak
        elif (
            held is not None
            and held in weighed.allowed
            and self._cost_usd(held, asked, is_held=True) <= self._cost_usd(decided, asked, is_held=False)
        ):
            model = held
        # Best first: who stands in for a model should be no worse than need be.
        other = next(entry.model for entry in weighed.ranking if entry.model != model)
        win_rate = next(entry.win_rate for entry in weighed.ranking if entry.model == model)
        reason: Reason = "pool" if model == decided else "session"
        return Choice(model, other, reason, plan.name, "", win_rate, weighed.decision.tau, None, decided)

    def _cost_usd(self, model: str, asked: Asked, *, is_held: bool) -> float:
        """Return about what a request costs at a model, which may have its beginning in the prompt cache."""
        assert self._sessions is not None  # noqa: S101 - only a session's model is weighed
        history_chars = asked.traits.history_chars
        return self._models[model].cost_usd(
            round((history_chars + len(asked.text)) / CHARS_PER_TOKEN),
            round(self._sessions.output_tokens(model)),
            round(history_chars / CHARS_PER_TOKEN) if is_held else 0,
        )

    # --- what both use

    def _held(self, asked: Asked) -> str | None:
        """Return the model that has the request's conversation in its prompt cache."""
        if self._sessions is None or not asked.conversation or not asked.is_continued:
            return None
        return self._sessions.model_of(asked.conversation)

    async def _weighed(self, plan: _Plan, text: str, threshold: float | None) -> Decision | _Weighed:
        if not plan.breaker.allows():
            raise RouterFailedError(
                f"router {plan.name} failed {plan.breaker.rule[0]} times in a row and is asked again in "
                f"{plan.breaker.retry_after_s:.0f} s"
            )
        weighed: Decision | _Weighed
        try:
            if plan.is_quick:
                weighed = plan.weigh(text, threshold)
            elif plan.pool is not None:
                weighed = await asyncio.to_thread(plan.weigh, text, threshold)
            else:
                if threshold is None:
                    # A router at a server is asked for it, once.
                    known = plan.threshold is not None or plan.budget is not None
                    threshold = plan.base_threshold() if known else await asyncio.to_thread(plan.base_threshold)
                name = RouterName(plan.name, threshold)
                weighed = await self._routers.adecide(text, name, no_text=plan.settings.no_text)
        except _OUTAGES:
            plan.breaker.failed()
            raise
        except Exception:
            plan.breaker.succeeded()  # it was there
            raise
        plan.breaker.succeeded()
        return weighed

    def _fallback(self, plan: _Plan, error: Exception) -> Choice:
        # Only texts of our own errors are known to hold nothing of a prompt.
        what = f"{type(error).__name__}: {error}" if isinstance(error, RouteLLMError) else type(error).__name__
        action = self._settings.on_failure.router
        if not plan.is_failing:
            plan.is_failing = True
            goes = "requests fail" if action == "fail" else f"requests go to the {action} model"
            _LOGGER.error("router %s cannot decide, %s until it can: %s", plan.name, goes, what)
        if action == "fail":
            raise RouterFailedError(f"router {plan.name} cannot decide: {what}") from error
        is_strong = action == "strong"
        model, other = (plan.strong, plan.weak) if is_strong else (plan.weak, plan.strong)
        return Choice(model, other, "fallback", plan.name, is_strong=_is_strong(plan, model))

    def _no_such(self, model: str) -> str:
        settings = self._settings
        routers = ", ".join(f"router-{name}" for name in settings.routers)
        text = f"there is no model {model[:200]!r}. Models: {', '.join(settings.models)}; routers: {routers or 'none'}"
        return f"{text}; further names: {', '.join(settings.aliases)}" if settings.aliases else text

    def _plan(self, name: str, pool: ModelPool | None, budget: Budget | None) -> _Plan:
        settings, router, failure = self._settings.routers[name], self._routers[name], self._settings.on_failure
        strong, weak = settings.strong or "", settings.weak or ""
        if pool is not None:
            strong, weak = pool.best_model or pool.models[-1].name, pool.models[0].name
        has_budget = settings.monthly_budget_usd is not None
        plan = _Plan(
            name,
            settings,
            router,
            pool,
            budget if has_budget else None,
            Breaker(failure.breaker_failures, failure.breaker_open_s),
            strong,
            weak,
            getattr(router, "answers_at_once", False),
            settings.threshold,
        )
        if pool is None:
            try:
                _ = router.threshold_for(DEFAULT_STRONG_SHARE) if has_budget else plan.base_threshold()
            except (InvalidArgumentError, UnreachableTargetError) as error:
                if not (has_budget and isinstance(error, UnreachableTargetError)):
                    raise type(error)(f"routers.{name}: {error}") from error
            except Exception as error:  # noqa: BLE001 - a server that is not there yet: it is asked again later
                _LOGGER.warning("router %s cannot say its threshold yet: %s", name, type(error).__name__)
        if settings.monthly_budget_usd is not None:
            if budget is None:
                raise InvalidArgumentError(f"routers.{name}: it has a monthly budget, and none was given to keep it")
            models = self._models
            pair = (strong, models[strong]), (weak, models[weak])
            budget.aim(settings.monthly_budget_usd, *pair, router.threshold_for)
        return plan


def _is_strong(plan: _Plan, model: str) -> bool | None:
    """Whether a model is the strong one of two; None where it is neither."""
    return None if plan.pool is not None or model not in (plan.strong, plan.weak) else model == plan.strong
