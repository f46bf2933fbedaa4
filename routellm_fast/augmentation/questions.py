"""The questions to the judge about a contest, and the key by which each is asked, and paid for, only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.templates import Template
from routellm_fast.augmentation.verdict import Mode
from routellm_fast.errors import InvalidArgumentError

ORDERS = ("both", "one")


@dataclass(frozen=True, slots=True)
class Question:
    """One judgement to ask for.

    Attributes:
        key: Digest of judge, template, prompt, reference and the responses in their order, so that the same question is
            never paid for twice, whichever contest it comes from. The server's address is left out: a judge may move.
        prompt: The prompt that the models answered.
        responses: The responses, in the order to show.
        reference: A correct answer; None where there is none.
    """

    key: str
    prompt: str
    responses: tuple[str, ...]
    reference: str | None


@dataclass(frozen=True, slots=True)
class Questioner:
    """Makes questions of contests, for one judge and one template.

    Attributes:
        judge: Settings of the judge's endpoint; its model and temperature are part of each question's key.
        template: The text of the questions.
        orders: Pairwise: "both" asks twice, each response first once; "one" once, in an order drawn by the contest's
            key, at half the cost and blind to position bias.
    """

    judge: EndpointSettings
    template: Template
    orders: str = "both"

    def __post_init__(self) -> None:
        if self.orders not in ORDERS:
            raise InvalidArgumentError(f"orders must be one of {', '.join(ORDERS)}, found {self.orders!r}")

    @property
    def settings(self) -> dict[str, Any]:
        """What makes judgements comparable, for the journal."""
        template = self.template
        return {
            "mode": template.mode.value,
            "judge": self.judge.model,
            "temperature": self.judge.temperature,
            "template": template.digest,
            "orders": self.orders if template.mode is Mode.PAIRWISE else None,
        }

    def questions(self, contest: Contest, response_a: str, response_b: str) -> dict[str, Question]:
        """Return the questions of a contest by label, as ledger.Recorded has them; none for equal responses."""
        if self.template.mode is Mode.SCORE:
            return {"a": self._question(contest, response_a), "b": self._question(contest, response_b)}
        if response_a.strip() == response_b.strip():
            return {}
        both = {
            "ab": self._question(contest, response_a, response_b),
            "ba": self._question(contest, response_b, response_a),
        }
        if self.orders == "both":
            return both
        drawn = min(both, key=lambda label: both[label].key)
        return {drawn: both[drawn]}

    def _question(self, contest: Contest, *responses: str) -> Question:
        parts = [self.judge.model, self.judge.temperature, self.template.digest, contest.prompt, contest.reference]
        return Question(digest_of("judgement", parts, responses), contest.prompt, responses, contest.reference)


def response_key(settings: EndpointSettings, prompt: str) -> str:
    """Return the key of a generated response. The server's address is left out: a model may move."""
    variant = [settings.variant] if settings.variant else []
    return digest_of("response", settings.model, settings.temperature, prompt, *variant)


def contest_record(contest: Contest, questions: Mapping[str, Question]) -> dict[str, Any]:
    """Return the record of a contest, which makes its judgements a battle without the file it came from."""
    calls = {label: question.key for label, question in questions.items()}
    names = [contest.source, contest.group, contest.prompt, contest.model_a, contest.model_b]
    return {
        "record": "contest",
        "id": digest_of("contest", names, calls),
        "prompt": contest.prompt,
        "group": contest.group,
        "source": contest.source,
        "model_a": contest.model_a,
        "model_b": contest.model_b,
        "winner": contest.winner,
        "calls": calls,
    }


def digest_of(*parts: Any) -> str:
    """Return a digest of JSON values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
