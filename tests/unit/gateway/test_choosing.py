from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from routellm_fast import ModelPair
from routellm_fast.calibration import Calibration
from routellm_fast.decision import Decision
from routellm_fast.errors import InvalidArgumentError, RouterFailedError, RoutingError, UnreachableTargetError
from routellm_fast.gateway.budget import Budget
from routellm_fast.gateway.choosing import Chooser
from routellm_fast.gateway.exchange import Asked, Choice, Exchange, Traits, Usage
from routellm_fast.gateway.sessions import Sessions
from routellm_fast.gateway.settings import Settings
from routellm_fast.pool import ModelPool
from routellm_fast.routers import RandomRouter
from routellm_fast.routing import RouterSet
from routellm_fast.serving.triton import TritonRouter
from tests.support.builders import mf_router
from tests.support.fake_triton import WIN_RATE, fake_triton
from tests.support.pool_builders import written_pool

ROUTER = RandomRouter(ModelPair("trained-strong", "trained-weak"))
PRICED = {"input_usd_per_1m": 10.0, "output_usd_per_1m": 30.0, "cached_input_usd_per_1m": 1.0}
CHEAP = {"input_usd_per_1m": 1.0, "output_usd_per_1m": 2.0, "cached_input_usd_per_1m": 0.5}


def settings(router: Mapping[str, Any] | None = None, *, free: bool = False, **more: Any) -> Settings:
    prices = ({}, {}) if free else (PRICED, CHEAP)
    models = {
        "s": {"upstream": "a", **prices[0]},
        "w": {"upstream": "a", **prices[1]},
        "local": {"upstream": "a"},
    }
    return Settings.model_validate(
        {
            "upstreams": {"a": {"base_url": "http://localhost:1/v1"}},
            "models": models,
            "routers": {"r": {"strong": "s", "weak": "w", "threshold": 0.5, **(router or {})}},
            **more,
        }
    )


def chooser(
    given: Settings | None = None,
    router: Any = ROUTER,
    sessions: Sessions | None = None,
    budgets: Mapping[str, Budget] | None = None,
) -> Chooser:
    return Chooser(given or settings(), RouterSet({"r": router}), {}, sessions, budgets or {})


def text_of(low: float, high: float) -> str:
    """A text whose win rate is in this range."""
    return next(text for text in map(str, range(100_000)) if low <= ROUTER.win_rate(text) < high)


HARD, EASY, MIDDLE = text_of(0.8, 0.9), text_of(0.1, 0.2), text_of(0.42, 0.45)


def asked(text: str = HARD, model: str = "router-r", **changes: Any) -> Asked:
    return Asked(model, text, Traits(), {}, "", "", False)._replace(**changes)


def choose(chooser: Chooser, request: Asked) -> Choice:
    return asyncio.run(chooser.choose(request))


# --- names


def test_a_model_that_is_named_is_taken() -> None:
    assert choose(chooser(), asked(model="local")) == Choice("local", None, "named")


def test_the_router_decides_by_the_threshold() -> None:
    rate = ROUTER.win_rate(HARD)
    assert choose(chooser(), asked(HARD)) == Choice("s", "w", "router", "r", "", rate, 0.5, True, "s")
    rate = ROUTER.win_rate(EASY)
    assert choose(chooser(), asked(EASY)) == Choice("w", "s", "router", "r", "", rate, 0.5, False, "w")


def test_aliases_lead_to_models_and_routers() -> None:
    made = chooser(settings(aliases={"gpt-4": "s", "best": "router-r", "thrifty": "router-r-0.99"}))
    assert choose(made, asked(model="gpt-4")).reason == "named"
    assert choose(made, asked(model="best")).threshold == 0.5
    assert choose(made, asked(model="thrifty")).model == "w"


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    made = chooser(settings(aliases={"gpt-4": "s"}))
    with pytest.raises(
        RoutingError, match=r"there is no model 'gpt-5'\. Models: s, w, local; routers: router-r; .*gpt-4"
    ):
        choose(made, asked(model="gpt-5"))
    with pytest.raises(RoutingError, match="Invalid router x"):
        choose(made, asked(model="router-x"))
    with pytest.raises(RoutingError) as caught:
        choose(made, asked(model="x" * 100_000))
    assert len(str(caught.value)) < 500


# --- thresholds


def test_the_threshold_in_the_name_comes_first(tmp_path: Path) -> None:
    assert choose(chooser(), asked(HARD, "router-r-0.95")).threshold == 0.95
    budget = Budget("r", tmp_path)
    made = chooser(settings({"threshold": None, "monthly_budget_usd": 5.0}), budgets={"r": budget})
    assert choose(made, asked(HARD, "router-r-0.95")).threshold == 0.95
    budget.close()


def test_a_strong_share_becomes_a_threshold() -> None:
    made = chooser(settings({"threshold": None, "strong_share": 0.3}))
    assert choose(made, asked()).threshold == pytest.approx(0.7)


def test_without_a_goal_the_calibrated_default_holds() -> None:
    made = chooser(settings({"threshold": None}))
    assert choose(made, asked()).threshold == ROUTER.default_threshold == 0.5


def test_a_router_without_calibration_needs_a_threshold() -> None:
    uncalibrated = mf_router().with_calibration(None)
    with pytest.raises(InvalidArgumentError, match=r"routers\.r: this router has no calibration"):
        chooser(settings({"threshold": None}), uncalibrated)
    with pytest.raises(InvalidArgumentError, match=r"routers\.r: this router has no calibration"):
        chooser(settings({"threshold": None, "monthly_budget_usd": 1.0}), uncalibrated)
    tied = Calibration("x", 100, ((0.0, 1.0), (0.1, 0.5), (0.9, 0.5), (1.0, 0.0)))
    with pytest.raises(UnreachableTargetError, match=r"routers\.r: no threshold yields|routers\.r: no threshold sends"):
        chooser(settings({"threshold": None, "strong_share": 0.5}), mf_router().with_calibration(tied))
    assert choose(chooser(settings(), uncalibrated), asked("hello")).threshold == 0.5


# --- texts without text


@pytest.mark.parametrize(("no_text", "model"), [("strong", "s"), ("weak", "w")])
def test_a_request_without_text_goes_where_the_settings_say(no_text: str, model: str) -> None:
    made = chooser(settings({"no_text": no_text}))
    assert choose(made, asked("")).model == choose(made, asked(" \n")).model == model


def test_a_request_without_text_may_be_scored() -> None:
    made = chooser(settings({"no_text": "score"}))
    assert choose(made, asked("")).is_strong == (ROUTER.win_rate("") >= 0.5)


# --- rules


def test_a_rule_decides_before_the_router() -> None:
    rules = [
        {"name": "tools", "when": {"tools": True}, "use": "strong"},
        {"name": "short", "when": {"max_chars": 3}, "use": "weak"},
        {"name": "private", "when": {"header": {"x-private": "*"}}, "use": "local"},
    ]
    made = chooser(settings(rules=rules, aliases={"best": "router-r"}))
    assert choose(made, asked(EASY, traits=Traits(has_tools=True))) == Choice(
        "s", None, "rule", "r", "tools", is_strong=True
    )
    assert choose(made, asked("abc")) == Choice("w", None, "rule", "r", "short", is_strong=False)
    private = asked("abcd", "best", headers={"x-private": "yes"})
    assert choose(made, private) == Choice("local", None, "rule", "r", "private")
    assert choose(made, asked("abcd")).reason == "router"


def test_a_model_that_is_named_is_not_for_rules() -> None:
    made = chooser(settings(rules=[{"name": "all", "when": {"max_chars": 9}, "use": "local"}]))
    assert choose(made, asked("abc", "s")).model == "s"


# --- sessions


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    given = settings(sessions={}).sessions
    made = Sessions(given, tmp_path)
    yield made
    made.close()


def turn(text: str, **changes: Any) -> Asked:
    """A later turn of a long conversation."""
    return asked(text, conversation="c", is_continued=True, traits=Traits(turns=9, history_chars=400_000), **changes)


def test_a_conversation_in_the_strong_models_cache_stays_with_it(sessions: Sessions) -> None:
    made = chooser(sessions=sessions)
    assert choose(made, turn(MIDDLE)).model == "w"
    sessions.note("c", "s")
    choice = choose(made, turn(MIDDLE))
    assert (choice.model, choice.other, choice.reason, choice.decided) == ("s", "w", "session", "w")
    assert choice.is_strong is True
    assert choice.threshold is not None
    # The strong model's input costs as much as the weak one's once it is cached: its answer alone is dearer.
    assert choice.threshold < 0.01
    assert choice.win_rate == ROUTER.win_rate(MIDDLE)


def test_a_conversation_in_the_weak_models_cache_needs_a_higher_win_rate(sessions: Sessions) -> None:
    made = chooser(sessions=sessions)
    sessions.note("c", "w")
    choice = choose(made, turn(HARD))
    assert (choice.model, choice.reason, choice.decided) == ("s", "router", "s")
    assert choice.threshold is not None
    assert 0.5 < choice.threshold < 0.6
    text = text_of(0.5, 0.51)
    choice = choose(made, turn(text))
    assert (choice.model, choice.reason, choice.decided) == ("w", "session", "s")


def test_other_conversations_and_first_turns_are_routed_for_themselves(sessions: Sessions) -> None:
    made = chooser(sessions=sessions)
    sessions.note("c", "s")
    assert (
        choose(
            made,
            turn(
                MIDDLE,
            )._replace(conversation="d"),
        ).threshold
        == 0.5
    )
    assert choose(made, turn(MIDDLE)._replace(is_continued=False)).threshold == 0.5
    assert choose(made, turn(MIDDLE)._replace(conversation="")).threshold == 0.5
    sessions.note("c", "local")  # by a rule
    assert choose(made, turn(MIDDLE)).threshold == 0.5


def test_without_prices_a_conversation_stays_with_its_model(sessions: Sessions) -> None:
    made = chooser(settings(free=True), sessions=sessions)
    sessions.note("c", "s")
    assert choose(made, turn(EASY)).model == "s"
    sessions.note("c", "w")
    assert choose(made, turn(HARD)).model == "w"


def test_a_request_without_text_in_a_conversation_goes_where_the_settings_say(sessions: Sessions) -> None:
    sessions.note("c", "w")
    assert choose(chooser(settings(free=True), sessions=sessions), turn("")).model == "s"


def test_what_goes_on_from_an_answer_goes_to_the_model_that_gave_it(sessions: Sessions) -> None:
    rules = [{"name": "all", "when": {"min_chars": 0}, "use": "strong"}]
    made = chooser(settings(rules=rules), sessions=sessions)
    sessions.note_response("resp_1", "w")
    assert choose(made, asked(previous_response="resp_1")) == Choice("w", None, "session", "r", is_strong=False)
    assert choose(made, asked(previous_response="resp_2")).reason == "rule"
    sessions.note_response("resp_3", "removed-from-the-settings")
    assert choose(made, asked(previous_response="resp_3")).reason == "rule"
    assert choose(made, asked(model="s", previous_response="resp_1")).model == "s"


# --- shadow


def test_in_shadow_mode_the_strong_model_answers_and_the_decision_is_recorded(sessions: Sessions) -> None:
    made = chooser(settings({"shadow": True}), sessions=sessions)
    choice = choose(made, asked(EASY))
    assert (choice.model, choice.other, choice.reason, choice.decided) == ("s", "w", "shadow", "w")
    assert (choice.is_strong, choice.win_rate, choice.threshold) == (True, ROUTER.win_rate(EASY), 0.5)
    assert choose(made, asked(HARD)).decided == "s"


# --- budgets


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    made = Budget("r", tmp_path)
    yield made
    made.close()


BUDGETED = {"threshold": None, "monthly_budget_usd": 5.0}


def test_a_budget_gives_the_threshold(budget: Budget) -> None:
    made = chooser(settings(BUDGETED), budgets={"r": budget})
    choice = choose(made, asked(HARD))
    assert (choice.model, choice.threshold) == ("s", budget.threshold())
    assert budget.monthly_usd == 5.0


def test_when_the_money_is_gone_all_goes_to_the_weak_model(budget: Budget, sessions: Sessions) -> None:
    made = chooser(settings({**BUDGETED, "no_text": "strong"}), budgets={"r": budget}, sessions=sessions)
    budget.note("s", 6.0, is_by_threshold=True)
    sessions.note("c", "s")
    for request in (asked(HARD), asked(""), turn(HARD)):
        choice = choose(made, request)
        assert (choice.model, choice.other, choice.reason, choice.threshold) == ("w", "s", "router", 1.0)
        assert (choice.is_strong, choice.decided) == (False, "w")
    assert choose(made, asked(HARD, "router-r-0.1")).model == "s"


def test_a_budget_needs_a_keeper() -> None:
    with pytest.raises(InvalidArgumentError, match=r"routers\.r: it has a monthly budget"):
        chooser(settings(BUDGETED))


# --- what was answered


def answer(choice: Choice, model: str = "", *, cost_usd: float | None = 0.5, **changes: Any) -> Exchange:
    made = Exchange("/v1/chat/completions", choice=choice, model=model or choice.model, cost_usd=cost_usd)
    made.usage = Usage(100, 10)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_an_answer_is_noted_for_its_conversation_and_its_budget(budget: Budget, sessions: Sessions) -> None:
    made = chooser(settings(BUDGETED), budgets={"r": budget}, sessions=sessions)
    request = asked(HARD, conversation="c")
    choice = choose(made, request)
    made.answered(request, answer(choice, response_id="resp_1"))
    assert sessions.model_of("c") == "s"
    assert sessions.owner_of("resp_1") == "s"
    assert sessions.output_tokens("s") == 10.0
    assert budget.spent_usd == 0.5
    # The other model answered, since this one failed; its answer's length is a guess.
    made.answered(request, answer(choice, "w", cost_usd=0.25, usage=Usage(1, 999, is_estimated=True)))
    assert sessions.model_of("c") == "w"
    assert sessions.output_tokens("w") == 264
    assert budget.spent_usd == 0.75


def test_what_was_not_answered_is_not_noted(budget: Budget, sessions: Sessions) -> None:
    made = chooser(settings(BUDGETED), budgets={"r": budget}, sessions=sessions)
    request = asked(HARD, conversation="c")
    made.answered(request, answer(choose(made, request), usage=None))
    failed = Exchange("/v1/chat/completions")
    made.answered(request, failed)
    assert sessions.model_of("c") is None
    assert budget.spent_usd == 0.0


def test_a_mirrored_answer_costs_money_too(budget: Budget) -> None:
    made = chooser(settings(BUDGETED), budgets={"r": budget})
    exchange = answer(choose(made, asked(HARD)))
    made.mirrored(exchange)
    exchange.mirrored = Exchange("/v1/chat/completions", model="w", cost_usd=0.125)
    made.mirrored(exchange)  # it failed
    assert budget.spent_usd == 0.0
    exchange.mirrored.usage = Usage(100, 10)
    made.mirrored(exchange)
    assert budget.spent_usd == 0.125


def test_only_what_the_budgets_threshold_decided_teaches_it(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"name": "tools", "when": {"tools": True}, "use": "strong"}]
    made = chooser(settings(BUDGETED, rules=rules, aliases={"x": "router-r-0.1"}), budgets={"r": budget})
    seen = []
    monkeypatch.setattr(budget, "note", lambda model, usd, *, is_by_threshold: seen.append((model, is_by_threshold)))
    for request in (asked(HARD), asked(HARD, "x"), asked(HARD, traits=Traits(has_tools=True)), asked(HARD, "s")):
        made.answered(request, answer(choose(made, request)))
    choice = choose(made, asked(HARD))
    made.answered(asked(HARD), answer(choice, "w"))
    assert seen == [("s", True), ("s", False), ("s", False), ("w", False)]


# --- failures


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("action", "model", "other"), [("strong", "s", "w"), ("weak", "w", "s")])
def test_a_triton_server_that_is_gone_is_a_fallback(
    action: str, model: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TritonRouter(closed_port(), timeout_s=5.0) as router:
        made = chooser(settings(on_failure={"router": action}), router)
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                choice = choose(made, asked("a secret prompt"))
                assert choice == Choice(model, other, "fallback", "r", is_strong=action == "strong")
    assert len(caplog.records) == 1
    assert (
        f"router r cannot decide, requests go to the {action} model until it can: TritonUnavailableError" in caplog.text
    )
    assert "secret" not in caplog.text


def test_a_router_that_fails_may_fail_requests() -> None:
    with TritonRouter(closed_port(), timeout_s=5.0) as router:
        made = chooser(settings(on_failure={"router": "fail"}), router)
        with pytest.raises(RouterFailedError, match="router r cannot decide: TritonUnavailableError"):
            choose(made, asked())


def test_a_router_that_is_gone_is_left_alone_for_a_while_and_then_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    router = Controlled()
    given = settings(on_failure={"router": "fail", "breaker_failures": 2, "breaker_open_s": 86_400.0})
    made = chooser(given, router)
    router.error = ConnectionError("gone")
    for _ in range(2):
        with pytest.raises(RouterFailedError, match="ConnectionError"):
            choose(made, asked())
    with pytest.raises(RouterFailedError, match="failed 2 times in a row and is asked again in 86400 s"):
        choose(made, asked())
    assert router.calls == 2


def test_a_fault_of_one_request_keeps_no_other_from_the_router(caplog: pytest.LogCaptureFixture) -> None:
    router = Controlled()
    made = chooser(settings(on_failure={"breaker_failures": 1}), router)
    router.error = ZeroDivisionError("with a secret prompt in it")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert choose(made, asked()).reason == "fallback"
        router.error = None
        assert choose(made, asked()).reason == "router"
        assert choose(made, asked()).reason == "router"
    assert router.calls == 5
    assert [record.message for record in caplog.records] == [
        "router r cannot decide, requests go to the strong model until it can: ZeroDivisionError",
        "router r decides again",
    ]


class Controlled:
    """A router of somebody else's, which fails or waits as it is told."""

    default_threshold = 0.5

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.calls = 0

    def threshold_for(self, strong_share: float) -> float:
        return 1.0 - strong_share

    def win_rates(self, prompts: object) -> object:
        raise AssertionError(prompts)

    def route(self, prompt: str, threshold: float | None = None, *, no_text: str = "strong") -> Decision:
        self.calls += 1
        assert self.may_answer.wait(60.0)
        if self.error is not None:
            raise self.error
        assert threshold is not None
        return Decision("trained-strong", 0.9, threshold, threshold <= 0.9)


def test_a_slow_router_does_not_hold_up_other_requests() -> None:
    router = Controlled()
    router.may_answer.clear()
    made = Chooser(
        settings().model_copy(update={"routers": {name: settings().routers["r"] for name in ("r", "quick")}}),
        RouterSet({"r": router, "quick": ROUTER}),
        {},
        None,
        {},
    )

    async def both() -> tuple[Choice, Choice]:
        slow = asyncio.create_task(made.choose(asked()))
        while not router.calls:
            await asyncio.sleep(0)
        quick = await made.choose(asked(model="router-quick"))
        assert not slow.done()
        router.may_answer.set()
        return await slow, quick

    slow, quick = asyncio.run(both())
    assert (slow.router, quick.router) == ("r", "quick")


def test_a_triton_server_decides() -> None:
    with fake_triton("http") as server, TritonRouter(server.url, timeout_s=60.0) as router:
        choice = choose(chooser(router=router), asked("hello"))
        assert (choice.model, choice.win_rate, choice.threshold, choice.reason) == ("w", WIN_RATE, 0.5, "router")
        assert server.inferences == 1


def test_a_server_that_is_not_there_yet_is_asked_for_its_threshold_later() -> None:
    router = Controlled()
    asks = iter([ConnectionError("not there yet")])

    class Late(Controlled):
        def threshold_for(self, strong_share: float) -> float:
            for error in asks:
                raise error
            return 1.0 - strong_share

    router = Late()
    made = chooser(settings({"threshold": None, "strong_share": 0.25}), router)
    assert choose(made, asked()).threshold == 0.75


# --- pools


def pooled(sessions: Sessions | None = None, pool: ModelPool | None = None, **router: Any) -> Chooser:
    pool = pool or written_pool()
    costs = {model.name: model.cost_usd_per_1k for model in pool.models}
    given = Settings.model_validate(
        {
            "upstreams": {"a": {"base_url": "http://localhost:1/v1"}},
            "models": {
                name: {
                    "upstream": "a",
                    "input_usd_per_1m": cost,
                    "output_usd_per_1m": cost,
                    "cached_input_usd_per_1m": 0.0,
                }
                for name, cost in costs.items()
            },
            "routers": {
                "r": {"pool": {"models": dict.fromkeys(costs), "tau": 0.6, "best_model": pool.best_model}, **router}
            },
            "rules": [{"name": "tools", "when": {"tools": True}, "use": "strong"}],
        }
    )
    return Chooser(given, RouterSet({"r": pool.router}), {"r": pool}, sessions, {})


def test_a_pool_takes_the_cheapest_model_that_is_good_enough() -> None:
    made = pooled()
    # Win rates against the best: 1/2, 1/2 - a bit, little.
    choice = choose(made, asked("1 0.9 -3"))
    assert (choice.model, choice.other, choice.reason, choice.router) == ("middle", "large", "pool", "r")
    assert choice.threshold == 0.6
    assert choice.is_strong is None
    assert choice.win_rate == pytest.approx(0.475, abs=1e-3)
    assert choose(made, asked("5 0 0")).model == "large"
    assert choose(made, asked("1 1 1")).model == "small"


def test_a_number_in_the_name_is_the_pools_tau() -> None:
    assert choose(pooled(), asked("1 0.9 -3", "router-r-1.0")).model == "small"
    with pytest.raises(InvalidArgumentError, match=r"router-r-0\.3: tau 0\.3 is below 0\.5"):
        choose(pooled(), asked("1 0.9 -3", "router-r-0.3"))


def test_rules_mean_the_dearest_and_the_cheapest_or_the_best_of_a_pool() -> None:
    tools = asked("1 1 1", traits=Traits(has_tools=True))
    assert choose(pooled(), tools) == Choice("large", None, "rule", "r", "tools")
    assert choose(pooled(pool=written_pool(best_model="middle")), tools).model == "middle"


def test_a_conversations_model_of_a_pool_is_kept_where_its_cache_makes_it_the_cheapest(sessions: Sessions) -> None:
    made = pooled(sessions)
    request = turn("1 1 -5")  # small is not good enough
    assert choose(made, request).model == "middle"
    sessions.note("c", "large")
    choice = choose(made, request)
    assert (choice.model, choice.other, choice.reason, choice.decided) == ("large", "middle", "session", "middle")
    # With a short history the answer is what costs.
    assert choose(made, request._replace(traits=Traits(history_chars=40))).model == "middle"
    sessions.note("c", "small")
    assert choose(made, request).model == "middle"


def test_a_pools_router_that_fails_is_a_fallback() -> None:
    # The embedder of these tests takes numbers only.
    assert choose(pooled(), asked("no numbers")) == Choice("large", "small", "fallback", "r")
