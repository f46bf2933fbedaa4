"""How many calls, tokens and US dollars a run would take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from routellm_fast.augmentation.completion import Messages, likely_input_tokens, most_input_tokens, sendable
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.ledger import Ledger
from routellm_fast.augmentation.questions import Questioner, response_key


@dataclass(frozen=True, slots=True)
class Estimate:
    """The calls that are still to be made, without retries.

    Attributes:
        contests: Number of contests.
        judgements: Number of questions to the judge.
        responses: Number of responses to generate.
        on_record: Number of calls that the journal holds already.
        input_tokens: About how many tokens are sent, at four bytes a token. A response that is not yet generated counts
            with the most tokens that it may have.
        output_tokens: The most tokens that can be answered.
        cost_usd: US dollars that these tokens cost; None without prices.
        most_usd: The most US dollars that the calls can cost, at one byte a token; None without prices.
    """

    contests: int
    judgements: int
    responses: int
    on_record: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    most_usd: float | None


class _Sum:
    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = 0
        self.cost_usd = self.most_usd = 0.0
        self.is_priced = True

    def add(self, settings: EndpointSettings, messages: Messages, extra_tokens: int = 0) -> None:
        likely = likely_input_tokens(message["content"] for message in messages) + extra_tokens
        self.calls += 1
        self.input_tokens += likely
        self.output_tokens += settings.max_tokens
        if settings.prices is None:
            self.is_priced = False
            return
        self.cost_usd += settings.prices.cost_usd(likely, settings.max_tokens)
        self.most_usd += settings.prices.cost_usd(most_input_tokens(messages) + extra_tokens, settings.max_tokens)


def estimate(
    contests: Iterable[Contest],
    *,
    questioner: Questioner | None,
    generators: Mapping[str, EndpointSettings],
    ledger: Ledger | None = None,
) -> Estimate:
    """Count the calls that a run would make. See session.ask_all for the arguments."""
    ledger = ledger or Ledger()
    total, judgements, seen = _Sum(), 0, set[str]()
    count = on_record = 0
    for contest in contests:
        count += 1
        texts: list[str] = []
        unknown_tokens = 0
        for model, response in ((contest.model_a, contest.response_a), (contest.model_b, contest.response_b)):
            if response is not None:
                texts.append(response)
                continue
            settings = generators[model]
            key = response_key(settings, contest.prompt)
            texts.append(ledger.responses[key].text if key in ledger.responses else key)
            if key in ledger.responses:
                on_record += key not in seen
            else:
                unknown_tokens += settings.max_tokens
                if key not in seen:
                    total.add(settings, [{"role": "user", "content": sendable(contest.prompt)}])
            seen.add(key)
        if questioner is None:
            continue
        for question in questioner.questions(contest, *texts).values():
            if question.key in seen:
                continue
            seen.add(question.key)
            if question.key in ledger.judgements:
                on_record += 1
                continue
            messages = questioner.template.messages(
                question.prompt, question.responses, question.reference, remind=False
            )
            total.add(questioner.judge, messages, unknown_tokens)
            judgements += 1
    return Estimate(
        contests=count,
        judgements=judgements,
        responses=total.calls - judgements,
        on_record=on_record,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cost_usd=total.cost_usd if total.is_priced else None,
        most_usd=total.most_usd if total.is_priced else None,
    )
