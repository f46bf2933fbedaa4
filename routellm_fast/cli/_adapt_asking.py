"""What the options of `routellm-fast adapt` say of whom it asks: the strong model, the weak model and the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.adaptation.asking import AskJob
from routellm_fast.adaptation.checking import checker_of
from routellm_fast.adaptation.redaction import redaction_of
from routellm_fast.augmentation import EndpointSettings, JudgeConfig, Questioner
from routellm_fast.cli._judging import template_of
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.prices import ModelPrice, PairPrices, assigned_usd

_WHO: Final = ("strong", "weak", "judge")


def prices_of(entries: Sequence[str]) -> dict[str, ModelPrice]:
    """Return what each charges, from WHO=IN/OUT."""
    found: dict[str, ModelPrice] = {}
    for entry in entries:
        assigned = assigned_usd(entry, 2)
        if assigned is None or assigned[0] not in _WHO:
            raise InvalidArgumentError(
                f"--price must be WHO=IN/OUT with strong, weak or judge, e.g. strong=2.5/10, found {entry!r}"
            )
        who, (price_in, price_out) = assigned
        if who in found:
            raise InvalidArgumentError(f"--price names {who} twice")
        found[who] = ModelPrice(price_in, price_out)
    return found


def pair_prices(prices: Mapping[str, ModelPrice], output_tokens: float | None, *, is_asked: bool) -> PairPrices | None:
    """Return the prices that tell what answers cost; None where that is measured, or unknown.

    Args:
        prices: What each charges.
        output_tokens: Mean number of tokens of an answer.
        is_asked: Whether both models are asked, so that each answer's tokens are counted.
    """
    named = {"strong", "weak"} & set(prices)
    if output_tokens is None and (is_asked or not named):
        return None
    if len(named) < 2:
        raise InvalidArgumentError(
            "what answers cost takes the prices of both models: --price strong=IN/OUT --price weak=IN/OUT"
        )
    if output_tokens is None:
        raise InvalidArgumentError(
            "where nobody is asked, --price takes --output-tokens, the mean number of tokens of an answer"
        )
    return PairPrices(prices["strong"], prices["weak"], output_tokens)


def asking_of(
    pair: ModelPair,
    journal: Path,
    names: Mapping[str, str | None],
    base_urls: Sequence[str],
    key_variables: Sequence[str],
    prices: Mapping[str, ModelPrice],
    common: Mapping[str, Any],
    *,
    mode: str,
    template: Path | None,
    check: str | None,
    redact: Sequence[str],
    max_concurrency: int,
    max_failure_share: float,
    max_cost_usd: float | None,
) -> AskJob:
    """Return whom to ask.

    Args:
        pair: The two models.
        journal: The file that keeps every answer.
        names: What strong, weak and judge are called at their servers; whoever is missing or None is not asked.
        base_urls: Addresses, [WHO=]URL.
        key_variables: Environment variables with keys, [WHO=]VARIABLE.
        prices: See prices_of.
        common: Settings that all endpoints share.
        mode: What the judge does.
        template: File with the question to the judge; None for the one that ships.
        check: The checker in place of a judge; None for none.
        redact: What is taken out before anything is sent.
        max_concurrency: The most requests at once.
        max_failure_share: Share of prompts without a label from which the run stops.
        max_cost_usd: The most US dollars; None for no cap.
    """
    urls, keys = _by_who(base_urls, "--base-url"), _by_who(key_variables, "--api-key-env")
    endpoints = {
        who: EndpointSettings(
            name, base_url=urls.get(who), api_key_variable=keys.get(who), prices=prices.get(who), **common
        )
        for who, name in names.items()
        if name
    }
    judge = endpoints.get("judge")
    return AskJob(
        pair,
        journal,
        strong=endpoints.get("strong"),
        weak=endpoints.get("weak"),
        judge=None if judge is None else Questioner(judge, template_of(mode, template, as_json=False)),
        checker=None if check is None else checker_of(check),
        redaction=redaction_of(redact),
        config=JudgeConfig(max_concurrency=max_concurrency, max_failure_share=max_failure_share),
        max_cost_usd=max_cost_usd,
    )


def _by_who(entries: Sequence[str], option: str) -> dict[str, str]:
    """Return what each is given, from [WHO=]VALUE: an entry with WHO goes before the one for all."""
    given: dict[str, str] = {}
    for entry in entries:
        who, mark, value = entry.partition("=")
        if not mark or who not in _WHO:
            who, value = "", entry
        if who in given:
            raise InvalidArgumentError(f"{option} is given twice for {who or 'all'}")
        given[who] = value
    return {who: given[name] for who in _WHO for name in (who, "") if name in given and (name or who not in given)}
