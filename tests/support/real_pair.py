"""A strong and a weak model that are real and small, and a stand-in for the judge who knows the right answers.

Both models are SmolLM2-135M-Instruct, each behind a server of its own. The weak one is cheap as its answers end after a
few tokens: they have room for a word or a number, and not for a list or a calculation.

`python -m tests.support.real_pair` serves all three until ^C, and prints their addresses.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from routellm_fast.prices import ModelPrice
from tests.support.counting_proxy import CountingProxy
from tests.support.fake_judge import FakeJudge, Request
from tests.support.small_models import served_model
from tests.support.small_tasks import is_right

STRONG = "smollm2-135m"
WEAK = "smollm2-135m-brief"
WEAK_TOKENS = 12
STRONG_PRICE = ModelPrice(2.0, 8.0)
WEAK_PRICE = ModelPrice(0.5, 1.0)
JUDGE_PRICE = ModelPrice(10.0, 30.0)
ROUNDING_USD = 1e-9


def knows_the_answers(request: Request) -> str:
    """Judge by the right answer: a right response beats a wrong one, and all else is a tie."""
    prompt = request.tag("prompt")
    first, second = (is_right(prompt, request.tag(name)) for name in ("response_a", "response_b"))
    return f"VERDICT: {'TIE' if first == second else 'A' if first else 'B'}"


@dataclass(frozen=True, slots=True)
class RealPair:
    """Servers on the loopback: both models, and the judge. All of them count their requests."""

    strong: CountingProxy
    weak: CountingProxy
    judge: FakeJudge

    @property
    def models(self) -> tuple[CountingProxy, CountingProxy]:
        return self.strong, self.weak

    @property
    def billed_usd(self) -> float:
        """US dollars for all that the three have answered."""
        calls = len(self.judge.requests)
        return (
            STRONG_PRICE.cost_usd(self.strong.input_tokens, self.strong.output_tokens)
            + WEAK_PRICE.cost_usd(self.weak.input_tokens, self.weak.output_tokens)
            + JUDGE_PRICE.cost_usd(calls * self.judge.input_tokens, calls * self.judge.output_tokens)
        )

    @property
    def asked(self) -> int:
        """Number of all requests."""
        return len(self.strong.requests) + len(self.weak.requests) + len(self.judge.requests)


@contextlib.contextmanager
def real_pair(strong_url: str, weak_url: str) -> Iterator[RealPair]:
    """Begin to count in front of two servers of models, whose addresses end in /v1."""
    with (
        CountingProxy(strong_url) as strong,
        CountingProxy(weak_url, WEAK_TOKENS) as weak,
        FakeJudge(knows_the_answers) as judge,
    ):
        yield RealPair(strong, weak, judge)


def main() -> None:
    with served_model(STRONG) as strong, served_model(WEAK) as weak, real_pair(strong, weak) as pair:
        for name, server in ((STRONG, pair.strong), (WEAK, pair.weak), ("judge-1", pair.judge)):
            print(name, server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
