from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter
from routellm_fast.routing import FunctionRouter, RouterName, RouterSet, RoutesPrompts
from routellm_fast.serving.triton import TritonRouter
from tests.support.builders import PAIR, mf_router
from tests.support.fake_model import Model
from tests.support.fake_triton import fake_triton
from tests.support.processes import run_python


def half(prompt: str) -> float:
    return 0.5


@pytest.fixture
def routers() -> RouterSet:
    return RouterSet({name: FunctionRouter(half, model_pair=PAIR) for name in ("mf", "my-mf", "my", "mf-2")})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("router-mf-0.116", ("mf", 0.116)),
        ("router-mf-0", ("mf", 0.0)),
        ("router-mf-1", ("mf", 1.0)),
        ("router-mf-1e-3", ("mf", 0.001)),
        ("router-mf", ("mf", None)),
        ("router-my-mf", ("my-mf", None)),
        ("router-my-mf-0.5", ("my-mf", 0.5)),
        ("router-my-0.5", ("my", 0.5)),
        ("router-mf-2", ("mf-2", None)),
        ("router-mf-2-0.5", ("mf-2", 0.5)),
        ("routers-mf-0.5", ("mf", 0.5)),  # as RouteLLM takes it
    ],
)
def test_a_name_gives_router_and_threshold(routers: RouterSet, model: str, expected: RouterName) -> None:
    assert routers.parse(model) == expected


FORM = "Model name must be of the format 'router-[router name]-[threshold]."
NAMES = "['mf', 'my-mf', 'my', 'mf-2']"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("gpt-4-1106-preview", "Threshold 1106-preview must be a float."),
        ("gpt-4-0613", f"Invalid model gpt-4-0613. {FORM}"),
        ("gpt-4", f"Invalid model gpt-4. {FORM}"),
        ("gpt4", f"Invalid model gpt4. {FORM}"),
        ("", f"Invalid model . {FORM}"),
        ("router-", f"Invalid model router-. {FORM}"),
        ("mf", f"Invalid model mf. {FORM}"),
        ("x-mf", f"Invalid model x-mf. {FORM}"),
        ("x-mf-0.5", f"Invalid model x-mf-0.5. {FORM}"),
        ("router-mf-high", "Threshold high must be a float."),
        ("router-my-mf-high", "Threshold high must be a float."),
        ("router-none-high", "Threshold high must be a float."),
        ("router-none-0.5", f"Invalid router none. Available routers are {NAMES}."),
        ("router-none", f"Invalid router none. Available routers are {NAMES}."),
        ("router-my-1.5", "Invalid threshold 1.5. Threshold must be a float between 0.0 and 1.0."),
        ("router-my--0.5", "Invalid threshold -0.5. Threshold must be a float between 0.0 and 1.0."),
        ("router-my-nan", "Invalid threshold nan. Threshold must be a float between 0.0 and 1.0."),
    ],
)
def test_a_wrong_name_is_refused_as_by_routellm(routers: RouterSet, model: str, text: str) -> None:
    with pytest.raises(rf.RoutingError) as found:
        routers.parse(model)
    assert str(found.value) == text


def test_router_and_threshold_may_be_given_apart(routers: RouterSet) -> None:
    assert routers.checked("mf", 0.5) == RouterName("mf", 0.5)
    for router, threshold in ((None, 0.5), ("mf", None), (None, None)):
        with pytest.raises(rf.RoutingError, match=r"^Router or threshold unspecified\.$"):
            routers.checked(router, threshold)
    with pytest.raises(TypeError, match="is str, found NoneType"):
        routers.parse(None)  # type: ignore[arg-type]


def test_a_set_is_a_mapping(routers: RouterSet) -> None:
    assert routers.names == ("mf", "my-mf", "my", "mf-2") == tuple(routers)
    assert "mf" in routers
    assert "none" not in routers
    assert routers["mf"].kind == "function"
    assert routers.is_router_name("router-anything")
    assert not routers.is_router_name("gpt-4")
    with pytest.raises(KeyError):
        routers["none"]
    with pytest.raises(rf.RoutingError, match="Invalid router none"):
        routers.decide("a", RouterName("none", 0.5))


@pytest.mark.parametrize(
    ("routers", "error", "text"),
    [
        ({}, rf.InvalidArgumentError, "at least one"),
        ({"": FunctionRouter(half)}, rf.InvalidArgumentError, "a router's name"),
        ({"mf": "mf"}, TypeError, "router 'mf' is str, which has no route and no win_rates"),
        ({"mf": FunctionRouter}, TypeError, "which has no state"),
    ],
)
def test_what_is_no_set_of_routers_is_refused(routers: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RouterSet(routers)  # type: ignore[arg-type]


def test_routers_of_every_home_have_one_face() -> None:
    face = {name for name in vars(RoutesPrompts) if not name.startswith("_")}
    assert face == {"kind", "model_pair", "default_threshold", "threshold_for", "win_rates", "route"}
    for kind in (MatrixFactorizationRouter, RandomRouter, FunctionRouter, TritonRouter):
        assert face <= set(dir(kind))


def test_a_decision_is_the_routers_own() -> None:
    router = mf_router()
    routers = RouterSet({"mf": router})
    assert routers.decide("prove the a", RouterName("mf", 0.3)) == router.route("prove the a", 0.3)
    assert routers.decide("prove the a", RouterName("mf", None)) == router.route("prove the a")
    assert routers.decide(" ", RouterName("mf", 0.3), no_text="weak").model == PAIR.weak


class InThread:
    """Tells in which thread it was asked, and waits until it may answer."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.threads: list[str] = []

    def __call__(self, prompt: str) -> float:
        self.threads.append(threading.current_thread().name)
        assert self.may_answer.wait(60.0)
        return 0.75


def test_a_slow_router_does_not_keep_the_event_loop() -> None:
    slow = InThread()
    routers = RouterSet({"slow": FunctionRouter(slow, model_pair=PAIR)})

    async def run() -> rf.Decision:
        deciding = asyncio.create_task(routers.adecide("a", RouterName("slow", 0.5)))
        await asyncio.sleep(0)
        # The router waits for what only this loop does: where it kept the loop, nobody would ever do it.
        slow.may_answer.set()
        return await deciding

    assert asyncio.run(run()).model == PAIR.strong
    assert slow.threads[0].startswith("routellm-fast slow")
    routers.close()


class WaitingEmbedder(Model):
    """Embeds when it is told to."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.may_answer = threading.Event()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        assert self.may_answer.wait(60.0)
        return super().embed(texts)


def test_an_embedder_that_waits_does_not_keep_the_event_loop() -> None:
    embedder = WaitingEmbedder(9)
    router = mf_router(embedder)  # type: ignore[arg-type]
    assert not router.answers_at_once
    routers = RouterSet({"mf": router})

    async def run() -> rf.Decision:
        loop = asyncio.get_running_loop()
        loop.call_soon(embedder.may_answer.set)
        return await routers.adecide("prove", RouterName("mf", 0.5))

    assert asyncio.run(run()) == router.route("prove", 0.5)


def test_a_router_without_waiting_is_asked_in_place() -> None:
    seen: list[str] = []

    def rate(prompt: str) -> float:
        seen.append(threading.current_thread().name)
        return 0.5

    routers = RouterSet({"quick": FunctionRouter(rate, answers_at_once=True), "mf": mf_router()})

    async def run() -> rf.Decision:
        await routers.adecide("a", RouterName("quick", 0.5))
        return await routers.adecide("prove the a", RouterName("mf", None))

    assert asyncio.run(run()) == mf_router().route("prove the a")
    assert seen == [threading.current_thread().name]


def test_threads_are_bounded_and_each_routers_own() -> None:
    slow, other = InThread(), InThread()
    other.may_answer.set()
    routers = RouterSet({"slow": FunctionRouter(slow), "other": FunctionRouter(other)}, threads=2)

    async def run() -> None:
        tasks = [asyncio.create_task(routers.adecide("a", RouterName("slow", 0.5))) for _ in range(10)]
        # Answers while all threads of the other router are taken.
        await routers.adecide("a", RouterName("other", 0.5))
        slow.may_answer.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert len(slow.threads) == 10
    assert len(set(slow.threads)) <= 2
    routers.close()


def test_a_router_behind_triton_answers_an_event_loop_without_a_thread_of_the_set() -> None:
    with fake_triton("http") as triton, TritonRouter(triton.url) as router:
        routers = RouterSet({"triton": router})

        async def run() -> rf.Decision:
            triton.answers.clear()
            deciding = asyncio.create_task(routers.adecide("a", RouterName("triton", None)))
            while not triton.waits.acquire(blocking=False):  # until the server has been asked
                await asyncio.sleep(0.001)
            triton.answers.set()
            return await deciding

        decision = asyncio.run(run())
        assert (decision.model, decision.win_rate, decision.threshold) == ("weak", 0.25, 0.5)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("routellm-fast triton_")]


def test_a_cancelled_call_to_triton_is_cut_and_a_closed_client_says_so() -> None:
    with fake_triton("http") as triton:
        router = TritonRouter(triton.url, timeout_s=60.0)

        async def cancel() -> None:
            triton.answers.clear()
            deciding = asyncio.create_task(router.aroute("a"))
            while not triton.waits.acquire(blocking=False):
                await asyncio.sleep(0.001)
            deciding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deciding

        asyncio.run(cancel())
        router.close()
        with pytest.raises(rf.TritonClosedError):
            asyncio.run(router.aroute("a"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    program = """
import asyncio, os, warnings
from routellm_fast.routing import FunctionRouter, RouterName, RouterSet
routers = RouterSet({"slow": FunctionRouter(lambda prompt: 0.5)}, threads=1)
ask = lambda: asyncio.run(routers.adecide("a", RouterName("slow", 0.5)))
ask()
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    os._exit(0 if ask().is_strong else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python("-c", program).stdout.strip() == "0"
