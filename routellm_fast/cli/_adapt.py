"""`routellm-fast adapt`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say, say_json, tell
from routellm_fast.cli._progress import busy, progress_bar
from routellm_fast.cli._prompts import PromptFormat
from routellm_fast.errors import DataError, InvalidArgumentError

if TYPE_CHECKING:
    from routellm_fast.adaptation.asking import AskJob
    from routellm_fast.adaptation.cases import Case
    from routellm_fast.adaptation.command import RunJob, RunResult
    from routellm_fast.adaptation.goal import Goal
    from routellm_fast.adaptation.labels import Labels
    from routellm_fast.augmentation.endpoint_settings import EndpointSettings
    from routellm_fast.decision import ModelPair
    from routellm_fast.prices import ModelPrice, PairPrices
    from routellm_fast.tables import LeftOut
    from routellm_fast.thresholds.traffic import Traffic

# The packages behind this command import an event loop and numpy's linear algebra: they are imported when it runs.

_INTERRUPTED: Final = 130
_LABELS: Final = 400
_QUALITY: Final = 0.95
_TEXT_FILES: Final = ("", ".txt")
_WHO: Final = ("strong", "weak", "judge")


def adapt(
    prompts: Annotated[
        Path | None,
        typer.Argument(
            help="File of your prompts: a table, or a text file with a prompt on each line. It may hold answers of the "
            "two models in columns `response:MODEL`, and a correct answer in `reference`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Router directory to write. What the run keeps is beside it, in OUT.adapt.")
    ] = ...,  # type: ignore[assignment]
    strong_model: Annotated[str, typer.Option("--strong-model", "--strong", help="Name of the strong model.")] = ...,  # type: ignore[assignment]
    weak_model: Annotated[str, typer.Option("--weak-model", "--weak", help="Name of the weak model.")] = ...,  # type: ignore[assignment]
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of scores: a prompt and a score column for each model, optionally `MODEL|total_cost`. Nobody "
            "is asked. May be given several times."
        ),
    ] = None,
    votes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of your own votes: prompt, model_a, model_b, winner. Nobody is asked. May be given several "
            "times."
        ),
    ] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Use only the answers that are in the file of prompts; ask neither model.")
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="Model that judges the answers of both models, at its server.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            help="Check answers against `reference` instead of a judge: exact, contains, choice, numeric[:TOLERANCE], "
            "regex:PATTERN, python:FILE.py:FUNCTION or tests[:TIMEOUT_S]."
        ),
    ] = None,
    strong_name: Annotated[
        str | None, typer.Option(help="Name of the strong model at its server; not given: --strong-model.")
    ] = None,
    weak_name: Annotated[
        str | None, typer.Option(help="Name of the weak model at its server; not given: --weak-model.")
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[WHO=]URL",
            help="Address of a server that speaks OpenAI's API: one for all, or WHO=URL, where WHO is strong, weak or "
            "judge. Not given: OPENAI_BASE_URL, else OpenAI's. May be given several times.",
        ),
    ] = None,
    api_key_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[WHO=]VARIABLE",
            help="Environment variable with a key, likewise; not given: OPENAI_API_KEY, which only OpenAI and the "
            "server of OPENAI_BASE_URL get.",
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHO=IN/OUT",
            help="What strong, weak or judge charges: US dollars for a million tokens read and for a million written.",
        ),
    ] = None,
    output_tokens: Annotated[
        float | None, typer.Option(help="Mean number of tokens of an answer, where labels do not hold costs.")
    ] = None,
    max_cost_usd: Annotated[
        float | None,
        typer.Option(help="Stop before the call that could exceed this many US dollars, earlier runs included."),
    ] = None,
    size: Annotated[int, typer.Option("--size", min=1, help="The most labels to collect.")] = _LABELS,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Collect labels in so many rounds: prompts that routers disagree on come next."),
    ] = 1,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="Stop after a round when the share of the strong model's quality that is kept is known within this on "
            "both sides, e.g. 0.05."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say how many calls, tokens and US dollars the labels would take, and ask nobody."
        ),
    ] = False,
    redact: Annotated[
        list[str] | None,
        typer.Option(
            help="Take out before anything is sent: all, the name of a rule (email, phone, card, key …), or a file of "
            "rules. May be given several times."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="What the judge does: `pairwise` compares two answers, `score` gives each 1 to 5.")
    ] = "pairwise",
    template: Annotated[Path | None, typer.Option(help="File with your own question to the judge.")] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            help=f"Share of the strong model's quality to keep; {_QUALITY:g} where no other goal is given.",
            show_default=False,
        ),
    ] = None,
    strong_share: Annotated[
        float | None, typer.Option(help="Instead: share of requests that the strong model gets.")
    ] = None,
    usd_per_1k: Annotated[float | None, typer.Option(help="Instead: US dollars that 1,000 requests may cost.")] = None,
    requests_a_month: Annotated[
        float | None, typer.Option(help="Your volume, to say what a month costs and saves.")
    ] = None,
    traffic: Annotated[
        Path | None,
        typer.Option(help="Prompts to calibrate the threshold on; not given: those that are labelled, or PROMPTS."),
    ] = None,
    router: Annotated[
        str | None, typer.Option(help="Router to start from: mf with a static embedder. Not given: the one that ships.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Way to learn: ridge, mf or sw_ranking. May be given several times; not given: ridge and sw_ranking, "
            "and mf where torch is installed."
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Add labels to an earlier run; its router is replaced only if the new one is not worse.",
        ),
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps labels, answers and the report; not given: OUT.adapt.")
    ] = None,
    prompt_ids: Annotated[
        list[Path] | None, typer.Option(help="File in which the prompt_id of a row is looked up.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="The most tokens of an answer, of a model or the judge.")
    ] = 1024,
    temperature: Annotated[
        float, typer.Option(help="Temperature of both models and the judge; a negative number sends none.")
    ] = 0.0,
    requests_per_min: Annotated[float | None, typer.Option(help="The most requests a minute to each model.")] = None,
    tokens_per_min: Annotated[float | None, typer.Option(help="The most tokens a minute of each model.")] = None,
    max_concurrency: Annotated[int, typer.Option(min=1, help="The most requests at once.")] = 8,
    timeout_s: Annotated[float, typer.Option(help="Seconds that one attempt may take.")] = 120.0,
    max_retries: Annotated[
        int, typer.Option(min=0, help="Further attempts after status 429 or 5xx, a time-out or a broken connection.")
    ] = 5,
    max_failure_share: Annotated[
        float, typer.Option(help="Stop when more than this share of the prompts has no answer or verdict.")
    ] = 0.1,
    form: Annotated[PromptFormat, typer.Option("--format", help="How lines become prompts.")] = PromptFormat.AUTO,
    allow_server: AllowServer = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws what is labelled, what proves, and all resamples.")] = 0,
    created: Annotated[str, typer.Option(help="Date for the record; not given: today.")] = "",
    strict: Strict = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict and all numbers as JSON.")] = False,
) -> None:
    """From your own prompts to a router of your own, with a proof of what it saves."""
    from routellm_fast.adaptation import command
    from routellm_fast.adaptation.adapting import Wanted
    from routellm_fast.adaptation.folder import RunFolder
    from routellm_fast.adaptation.recipes import available
    from routellm_fast.artifact import ROUTER_LAYOUT, check_replaceable
    from routellm_fast.decision import checked_pair
    from routellm_fast.routers import load_router

    pair = checked_pair(strong_model, weak_model)
    goal = _goal(quality, strong_share, usd_per_1k)
    prices = _prices(price or [])
    is_labelled = bool(labels or votes)
    _check_sources(prompts, is_labelled=is_labelled, judge=judge, check=check, answers=answers)
    check_replaceable(out, ROUTER_LAYOUT)
    if not update and not dry_run:
        check_vacant_outputs(out, force=force)
    left_out = left_out_of(strict=strict)
    prior = load_router(router, allow_server=allow_server) if router else load_router()
    wanted = Wanted(
        prior,
        goal,
        recipes=tuple(recipe) if recipe else available(),
        prices=_pair_prices(prices, output_tokens),
        requests_a_month=requests_a_month,
        created=created or datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        seed=seed,
    )
    folder = RunFolder(work) if work is not None else RunFolder.of_router(out)
    job = command.RunJob(out, folder, wanted, pair, dataset=_dataset(traffic, prompts, labels, votes), update=update)
    command.start(job)
    ids = _ids(prompt_ids, left_out)
    own_traffic = None if traffic is None else _traffic(traffic, form, ids, left_out)
    if is_labelled:
        with busy("reading"):
            known, facts = _read_labels(labels or [], votes or [], pair, ids, left_out)
        say_left_out(left_out)
        with progress_bar("learning") as on_progress:
            result = command.run_on_labels(_with(job, facts), known, own_traffic, on_progress=on_progress)
        _show(result, job, as_json=as_json)
        return
    assert prompts is not None  # noqa: S101 - checked with the sources
    with busy("reading"):
        asked_traffic, cases = _read_prompts(prompts, pair, form, ids, left_out, asks=not answers)
    say_left_out(left_out)
    common: dict[str, Any] = {
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "temperature": None if temperature < 0.0 else temperature,
        "timeout_s": timeout_s,
        "max_retries": max_retries,
        "max_tokens": max_tokens,
    }
    names = {"strong": strong_name or strong_model, "weak": weak_name or weak_model, "judge": judge}
    endpoints = _endpoints(names, base_url or [], api_key_env or [], prices, common)
    ask = _ask_job(
        pair,
        folder.journal,
        endpoints,
        asks=not answers,
        mode=mode,
        template=template,
        check=check,
        redact=redact or [],
        max_concurrency=max_concurrency,
        max_failure_share=max_failure_share,
        max_cost_usd=max_cost_usd,
    )
    _collect(
        job, ask, asked_traffic, cases, own_traffic,
        size=(size, rounds, half_width), dry_run=dry_run, as_json=as_json,
    )  # fmt: skip


def _collect(
    job: RunJob,
    ask: AskJob,
    traffic: Traffic,
    cases: Sequence[Case],
    own_traffic: Traffic | None,
    *,
    size: tuple[int, int, float | None],
    dry_run: bool,
    as_json: bool,
) -> None:
    from routellm_fast.adaptation import command
    from routellm_fast.adaptation.collecting import Collection, Size

    wanted_size = Size(*size)
    with busy("choosing prompts"):
        collection = Collection(cases, traffic, job.wanted.prior, seed=job.wanted.seed)
    if dry_run:
        _show_outlook(*command.outlook(collection, ask, wanted_size), len(collection.plan), ask)
        return
    with progress_bar("asking") as on_progress:
        found, result = command.run_on_traffic(
            job,
            collection,
            ask,
            wanted_size,
            own_traffic or traffic,
            on_asked=lambda at: on_progress(
                f"{at.stage}, ${at.spent_usd:.4f}, {at.failed:,} without a label", at.done, at.total
            ),
            on_interrupt=lambda: tell(
                "stopping when the requests under way are answered; ctrl-C again abandons them", by=""
            ),
            on_progress=on_progress,
        )
    for departure in found.asked.departures:
        tell(departure, by="note: ")
    if result is None:
        tell(f"every answer so far is in {ask.journal}. The same command goes on from there.", by="interrupted: ")
        raise typer.Exit(_INTERRUPTED)
    _show(result, job, as_json=as_json)
    if not as_json:
        report = found.asked.report
        say(
            f"labels: {report.labelled:,} of {report.prompts:,} prompts asked about; {report.new_calls:,} calls in "
            f"this run, {report.calls:,} in all; at most ${report.committed_usd:.4f} spent; ended because {found.ending}"
        )


def _check_sources(
    prompts: Path | None, *, is_labelled: bool, judge: str | None, check: str | None, answers: bool
) -> None:
    if is_labelled and (prompts is not None or judge or check or answers):
        raise InvalidArgumentError(
            "--labels and --votes hold what is known of each prompt, and nobody is asked: leave out PROMPTS, --judge, "
            "--check and --answers; --traffic names prompts to calibrate on"
        )
    if not is_labelled and prompts is None:
        raise InvalidArgumentError(
            "there is nothing to adapt to: give a file of your prompts, with --judge or --check, or --labels or --votes"
        )
    if prompts is not None and (judge is None) == (check is None):
        raise InvalidArgumentError("answers are judged or checked: give --judge or --check, one of the two")


def _goal(quality: float | None, strong_share: float | None, usd_per_1k: float | None) -> Goal:
    from routellm_fast.adaptation.goal import Goal

    given = {"quality": quality, "strong_share": strong_share, "usd_per_1k": usd_per_1k}
    found = {kind: value for kind, value in given.items() if value is not None}
    if len(found) > 1:
        raise InvalidArgumentError("give one goal: --quality, --strong-share or --usd-per-1k")
    kind, value = next(iter(found.items()), ("quality", _QUALITY))
    return Goal(kind, value)  # type: ignore[arg-type]


def _by_who(entries: Sequence[str], option: str) -> dict[str, str]:
    """Return what each of strong, weak and judge is given; an entry without a name is for all."""
    found: dict[str, str] = {}
    for entry in entries:
        who, mark, value = entry.partition("=")
        if not mark or who not in _WHO:
            who, value = "", entry
        for name in (who,) if who else _WHO:
            if who and name in found and found[name] != value and entry in entries[:-1]:
                raise InvalidArgumentError(f"{option} names {name} twice")
            if who or name not in found:
                found[name] = value
    return found


def _prices(entries: Sequence[str]) -> dict[str, ModelPrice]:
    from routellm_fast.prices import ModelPrice, assigned_usd

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


def _pair_prices(prices: dict[str, ModelPrice], output_tokens: float | None) -> PairPrices | None:
    """Return the prices of both models; None where costs of answers are measured, or unknown."""
    from routellm_fast.prices import PairPrices

    if output_tokens is None:
        return None
    if not {"strong", "weak"} <= set(prices):
        raise InvalidArgumentError("--output-tokens needs the prices of both models: --price strong=… --price weak=…")
    return PairPrices(prices["strong"], prices["weak"], output_tokens)


def _endpoints(
    names: dict[str, str | None],
    base_urls: Sequence[str],
    key_variables: Sequence[str],
    prices: dict[str, ModelPrice],
    common: dict[str, Any],
) -> dict[str, EndpointSettings]:
    from routellm_fast.augmentation.endpoint_settings import EndpointSettings

    urls, keys = _by_who(base_urls, "--base-url"), _by_who(key_variables, "--api-key-env")
    return {
        who: EndpointSettings(
            name, base_url=urls.get(who), api_key_variable=keys.get(who), prices=prices.get(who), **common
        )
        for who, name in names.items()
        if name
    }


def _ask_job(
    pair: ModelPair,
    journal: Path,
    endpoints: dict[str, EndpointSettings],
    *,
    asks: bool,
    mode: str,
    template: Path | None,
    check: str | None,
    redact: Sequence[str],
    max_concurrency: int,
    max_failure_share: float,
    max_cost_usd: float | None,
) -> AskJob:
    from routellm_fast.adaptation.asking import AskJob
    from routellm_fast.adaptation.checking import checker_of
    from routellm_fast.adaptation.redaction import redaction_of
    from routellm_fast.augmentation import JudgeConfig, Questioner
    from routellm_fast.cli._judging import template_of

    questioner = None
    if "judge" in endpoints:
        questioner = Questioner(endpoints["judge"], template_of(mode, template, as_json=False))
    return AskJob(
        pair,
        journal,
        strong=endpoints["strong"] if asks else None,
        weak=endpoints["weak"] if asks else None,
        judge=questioner,
        checker=None if check is None else checker_of(check),
        redaction=redaction_of(redact),
        config=JudgeConfig(max_concurrency=max_concurrency, max_failure_share=max_failure_share),
        max_cost_usd=max_cost_usd,
    )


def _ids(paths: list[Path] | None, left_out: LeftOut) -> Any:
    from routellm_fast.cli._judging import read_all_prompts

    return read_all_prompts(paths, left_out)


def _traffic(path: Path, form: PromptFormat, ids: Any, left_out: LeftOut) -> Traffic:
    from routellm_fast.cli._prompts import read_prompts
    from routellm_fast.thresholds.traffic import Traffic

    file = None if str(path) == "-" else path
    return Traffic.of(
        prompt.text for prompt in read_prompts([], file, form, ids=ids, keep_blank=True, left_out=left_out)
    )


def _read_prompts(
    path: Path, pair: ModelPair, form: PromptFormat, ids: Any, left_out: LeftOut, *, asks: bool
) -> tuple[Traffic, Sequence[Case]]:
    """Return the prompts with their counts, and what is known of each."""
    from routellm_fast.adaptation.cases import cases_of, read_cases
    from routellm_fast.thresholds.traffic import Traffic

    counted = _traffic(path, form, ids, left_out)
    if str(path) == "-" or path.suffix in _TEXT_FILES:
        return counted, cases_of(counted.prompts)
    cases = read_cases(path, pair, asks=asks, prompts=ids, left_out=left_out).found
    known = {case.prompt for case in cases}
    counts = zip(counted.prompts, counted.counts.tolist(), strict=True)
    kept = Traffic.of(prompt for prompt, count in counts if prompt in known for _ in range(count))
    return kept, [case for case in cases if case.prompt in set(kept.prompts)]


def _read_labels(
    tables: Sequence[Path], votes: Sequence[Path], pair: ModelPair, ids: Any, left_out: LeftOut
) -> tuple[Labels, dict[str, str]]:
    from routellm_fast.adaptation.labels import joined
    from routellm_fast.adaptation.reading import read_scores, read_votes

    found = [read_scores(path, pair, prompts=ids, left_out=left_out) for path in tables]
    found += [read_votes(path, pair, prompts=ids, left_out=left_out) for path in votes]
    if not found:
        raise DataError("there are no labels")
    facts = {
        str(path): f"{len(read.labels):,} labels of {read.rows:,} rows"
        + (f", {read.others:,} rows of other models left out" if read.others else "")
        + (f"; scores were divided by {read.scale:g}" if read.scale != 1.0 else "")
        for path, read in zip([*tables, *votes], found, strict=True)
    }
    return joined([read.labels for read in found]), facts


def _with(job: RunJob, labelling: dict[str, str]) -> RunJob:
    from dataclasses import replace

    return replace(job, labelling=labelling)


def _dataset(traffic: Path | None, prompts: Path | None, labels: list[Path] | None, votes: list[Path] | None) -> str:
    named = [path for path in (traffic, prompts, *(labels or []), *(votes or [])) if path is not None]
    return "standard input" if str(named[0]) == "-" else named[0].name


def _show_outlook(found: Any, promise: Any, prompts: int, ask: AskJob) -> None:
    say(
        f"{promise.labels:,} of {prompts:,} prompts would be labelled: {promise.training:,} to learn from, "
        f"{promise.untouched:,} to prove"
    )
    say(
        f"  the share of the strong model's quality that is kept would be known within about {promise.kept:.1%} on "
        f"both sides, and the saving within about {promise.saving:.0%}"
    )
    say(
        f"  calls: {found.judgements + found.responses:,} ({found.responses:,} answers, {found.judgements:,} "
        f"judgements); on record already: {found.on_record:,}"
    )
    say(f"  tokens: about {found.input_tokens:,} in, at most {found.output_tokens:,} out")
    if found.cost_usd is None or found.most_usd is None:
        say("  cost: not known without prices (--price WHO=IN/OUT)")
        return
    say(
        f"  cost: about ${found.cost_usd:.4f} if every answer is as long as it may be, and not more than "
        f"${found.most_usd:.4f} without retries"
    )
    if ask.max_cost_usd is not None:
        say(f"  cap: ${ask.max_cost_usd:.4f}")


def _show(result: RunResult, job: RunJob, *, as_json: bool) -> None:
    from routellm_fast.adaptation.sentences import replacement

    if as_json:
        record = result.report.to_json()
        change = None if result.replacement is None else replacement(result.replacement)
        say_json({**record, "replacement": change, "digest": result.digest})
        return
    for line in result.report.lines():
        say(line)
    if result.replacement is not None:
        say(replacement(result.replacement))
    say("")
    if result.digest is not None:
        say(f"router: {job.out} ({result.adapted.learning.chosen.name}), digest {result.digest}")
    say(f"report: {result.written[0]}")
