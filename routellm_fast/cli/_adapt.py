"""`routellm-fast adapt`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from routellm_fast.cli import _asking_options as asking
from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say, say_json, tell
from routellm_fast.cli._progress import busy, progress_bar
from routellm_fast.cli._prompts import PromptFormat
from routellm_fast.errors import InvalidArgumentError, OutputExistsError

if TYPE_CHECKING:
    from routellm_fast.adaptation.asking import AskJob
    from routellm_fast.adaptation.cases import Case
    from routellm_fast.adaptation.command import DryRun, RunJob, RunResult
    from routellm_fast.adaptation.folder import RunFolder
    from routellm_fast.adaptation.goal import Goal
    from routellm_fast.data import Prompts
    from routellm_fast.decision import ModelPair
    from routellm_fast.tables import LeftOut
    from routellm_fast.thresholds.traffic import Traffic

# The packages behind this command import an event loop and numpy's linear algebra: they are imported when it runs.

_INTERRUPTED: Final = 130
_QUALITY: Final = 0.95


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
    max_cost_usd: asking.MaxCostUsd = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=1,
            help="The most labels to collect. Not given: as many as --half-width usually takes, else 400.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Collect labels in so many rounds: prompts that routers disagree on come next."),
    ] = 1,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="How well the share of the strong model's quality that is kept is to be known: within this on both "
            "sides, e.g. 0.05. It says how many labels are collected; with --rounds, collecting stops as soon as it is "
            "reached."
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
            help="Way to learn: ridge, mf, sw_ranking or bert. May be given several times; not given: ridge and "
            "sw_ranking, and mf where torch is installed. bert takes minutes, and its router milliseconds a decision."
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
    requests_per_min: asking.RequestsPerMin = None,
    tokens_per_min: asking.TokensPerMin = None,
    max_concurrency: asking.MaxConcurrency = 8,
    timeout_s: asking.TimeoutS = 120.0,
    max_retries: asking.MaxRetries = 5,
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
    from routellm_fast.adaptation.collecting import Size
    from routellm_fast.adaptation.folder import RunFolder
    from routellm_fast.adaptation.reading import read_labels
    from routellm_fast.adaptation.recipes import available
    from routellm_fast.cli._adapt_asking import asking_of, pair_prices, prices_of
    from routellm_fast.decision import checked_pair
    from routellm_fast.routers import load_router

    pair = checked_pair(strong_model, weak_model)
    is_labelled = bool(labels or votes)
    only_for_asking = {
        "PROMPTS": prompts, "--judge": judge, "--check": check, "--answers": answers, "--dry-run": dry_run,
        "--size": size, "--half-width": half_width, "--max-cost-usd": max_cost_usd, "--redact": redact,
        "--base-url": base_url, "--api-key-env": api_key_env,
    }  # fmt: skip
    _check_sources(is_labelled, {name for name, given in only_for_asking.items() if given not in (None, False)})
    prices = prices_of(price or [])
    wanted = Wanted(
        load_router(router, allow_server=allow_server) if router else load_router(),
        _goal(quality, strong_share, usd_per_1k),
        recipes=tuple(recipe) if recipe else available(),
        prices=pair_prices(prices, output_tokens, is_asked=not (is_labelled or answers)),
        requests_a_month=requests_a_month,
        created=created or datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        seed=seed,
    )
    folder = RunFolder(work) if work is not None else RunFolder.of_router(out)
    job = command.RunJob(out, folder, wanted, pair, dataset=_dataset(traffic, prompts, labels, votes), update=update)
    if not update and not dry_run:
        _check_vacant(out, folder, force=force)
    left_out = left_out_of(strict=strict)
    ids = _ids(prompt_ids, left_out)
    own_traffic = None if traffic is None else _traffic(traffic, form, ids, left_out)
    if is_labelled:
        with busy("reading"):
            known, facts = read_labels(labels or [], votes or [], pair, prompts=ids, left_out=left_out)
        say_left_out(left_out)
        with progress_bar("learning") as on_progress:
            result = command.run_on_labels(replace(job, labelling=facts), known, own_traffic, on_progress=on_progress)
        _show(result, job, as_json=as_json)
        return
    assert prompts is not None  # noqa: S101 - checked with the sources
    common: dict[str, Any] = {
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "temperature": None if temperature < 0.0 else temperature,
        "timeout_s": timeout_s,
        "max_retries": max_retries,
        "max_tokens": max_tokens,
    }
    names = {"strong": strong_name or strong_model, "weak": weak_name or weak_model, "judge": judge}
    ask = asking_of(
        pair,
        folder.journal,
        names if not answers else {"judge": judge},
        base_url or [],
        api_key_env or [],
        prices,
        common,
        mode=mode,
        template=template,
        check=check,
        redact=redact or [],
        max_concurrency=max_concurrency,
        max_failure_share=max_failure_share,
        max_cost_usd=max_cost_usd,
    )
    wanted_size = Size.of(size, rounds, half_width)
    with busy("reading"):
        asked_traffic, cases = _read_prompts(prompts, pair, form, ids, left_out, asks=not answers)
    say_left_out(left_out)
    if dry_run:
        with busy("choosing prompts"):
            found = command.dry_run(job, cases, ask, wanted_size, asked_traffic)
        _show_dry_run(found, ask, as_json=as_json)
        return
    with progress_bar("asking") as on_progress:
        collected, asked = command.run_on_traffic(
            job,
            cases,
            ask,
            wanted_size,
            asked_traffic,
            calibrated_on=own_traffic,
            on_asked=lambda at: on_progress(
                f"{at.stage}, ${at.spent_usd:.4f}, {at.failed:,} without a label", at.done, at.total
            ),
            on_interrupt=lambda: tell(
                "stopping when the requests under way are answered; ctrl-C again abandons them", by=""
            ),
            on_progress=on_progress,
        )
    for departure in collected.asked.departures:
        tell(departure, by="note: ")
    if asked is None:
        tell(f"every answer so far is in {folder.journal}. The same command goes on from there.", by="interrupted: ")
        raise typer.Exit(_INTERRUPTED)
    _show(asked, job, as_json=as_json)
    if not as_json:
        report = collected.asked.report
        say(
            f"labels: {report.labelled:,} of {report.prompts:,} prompts asked about; {report.new_calls:,} calls in "
            f"this run, {report.calls:,} in all; at most ${report.committed_usd:.4f} spent; ended because "
            f"{collected.ending}"
        )


def _check_sources(is_labelled: bool, for_asking: set[str]) -> None:
    """Refuse options that do not go together.

    Args:
        is_labelled: Whether --labels or --votes are given.
        for_asking: The options that are given of those that have a meaning for prompts alone.
    """
    if is_labelled and for_asking:
        raise InvalidArgumentError(
            "--labels and --votes hold what is known of each prompt, and nobody is asked: leave out "
            f"{', '.join(sorted(for_asking))} (--traffic names prompts to calibrate on)"
        )
    if not is_labelled and "PROMPTS" not in for_asking:
        raise InvalidArgumentError(
            "there is nothing to adapt to: give a file of your prompts, with --judge or --check, or --labels or --votes"
        )
    if not is_labelled and len(for_asking & {"--judge", "--check"}) != 1:
        raise InvalidArgumentError("answers are judged or checked: give --judge or --check, one of the two")


def _goal(quality: float | None, strong_share: float | None, usd_per_1k: float | None) -> Goal:
    from routellm_fast.adaptation.goal import Goal

    given = {"quality": quality, "strong_share": strong_share, "usd_per_1k": usd_per_1k}
    found = {kind: value for kind, value in given.items() if value is not None}
    if len(found) > 1:
        raise InvalidArgumentError("give one goal: --quality, --strong-share or --usd-per-1k")
    kind, value = next(iter(found.items()), ("quality", _QUALITY))
    return Goal(kind, value)  # type: ignore[arg-type]


def _ids(paths: list[Path] | None, left_out: LeftOut) -> Prompts | None:
    from routellm_fast.cli._judging import read_all_prompts

    return read_all_prompts(paths, left_out)


def _traffic(path: Path, form: PromptFormat, ids: Prompts | None, left_out: LeftOut) -> Traffic:
    from routellm_fast.cli._prompts import read_prompts
    from routellm_fast.thresholds.traffic import Traffic

    file = None if _is_input(path) else path
    return Traffic.of(
        prompt.text for prompt in read_prompts([], file, form, ids=ids, keep_blank=True, left_out=left_out)
    )


def _read_prompts(
    path: Path, pair: ModelPair, form: PromptFormat, ids: Prompts | None, left_out: LeftOut, *, asks: bool
) -> tuple[Traffic, Sequence[Case]]:
    """Return the prompts with their counts, and what is known of each."""
    from routellm_fast.adaptation.cases import cases_of, read_cases
    from routellm_fast.tables import LeftOut, form_of
    from routellm_fast.thresholds.traffic import Traffic

    if _is_input(path) or form is PromptFormat.TEXT or form_of(path) is None:
        if not asks:
            raise InvalidArgumentError(
                f"--answers needs a table that holds the answers, in columns `response:{pair.strong}` and "
                f"`response:{pair.weak}`; {path} holds prompts alone"
            )
        counted = _traffic(path, form, ids, left_out)
        return counted, cases_of(counted.prompts)
    cases = read_cases(path, pair, asks=asks, prompts=ids, left_out=left_out).found
    # What cannot be read has been counted by now.
    counted = _traffic(path, form, ids, LeftOut(strict=left_out.strict))
    known = {case.prompt for case in cases}
    asked = zip(counted.prompts, counted.counts.tolist(), strict=True)
    kept = Traffic.of(prompt for prompt, count in asked if prompt in known for _ in range(count))
    return kept, cases


def _is_input(path: Path) -> bool:
    return str(path) == "-"


def _dataset(traffic: Path | None, prompts: Path | None, labels: list[Path] | None, votes: list[Path] | None) -> str:
    named = next(path for path in (traffic, prompts, *(labels or []), *(votes or [])) if path is not None)
    return "standard input" if _is_input(named) else named.name


def _show_dry_run(found: DryRun, ask: AskJob, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(found))
        return
    estimate, outlook = found.estimate, found.outlook
    say(
        f"{outlook.labels:,} of {found.prompts:,} different prompts would be labelled: {outlook.training:,} to learn "
        f"from, {outlook.untouched:,} to prove"
    )
    say(
        f"  the share of the strong model's quality that is kept would be known within about {outlook.kept:.1%} on "
        f"both sides, and the saving within about {outlook.saving:.0%}"
    )
    say(
        f"  calls: {estimate.judgements + estimate.responses:,} ({estimate.responses:,} answers, "
        f"{estimate.judgements:,} judgements); on record already: {estimate.on_record:,}"
    )
    say(f"  tokens: about {estimate.input_tokens:,} in, at most {estimate.output_tokens:,} out")
    if estimate.cost_usd is None or estimate.most_usd is None:
        say("  cost: not known without prices (--price WHO=IN/OUT)")
        return
    say(
        f"  cost: at most ${estimate.most_usd:.4f}, and retries; about ${estimate.cost_usd:.4f} if every answer is as "
        "long as it may be, less if they are shorter"
    )
    if ask.max_cost_usd is not None:
        say(f"  cap: ${ask.max_cost_usd:.4f}, which is enough for about {found.affordable:,} of these labels")


def _check_vacant(out: Path, folder: RunFolder, *, force: bool) -> None:
    """Refuse to replace a router of an earlier run, and say how to add to it."""
    try:
        check_vacant_outputs(out, force=force)
    except OutputExistsError as error:
        if (kept := folder.read()) is None:
            raise
        raise OutputExistsError(
            f"{out} exists already. --update adds labels to its {len(kept.labels):,}; --force starts over without them "
            "(answers that were paid for stay in the journal)"
        ) from error


def _show(result: RunResult, job: RunJob, *, as_json: bool) -> None:
    from routellm_fast.evaluation.verdict import threshold_text

    if as_json:
        say_json({**result.report.to_json(), "digest": result.digest})
        return
    for line in result.report.lines():
        say(line)
    say("")
    if result.digest is not None:
        threshold = threshold_text(result.adapted.threshold)
        say(f"router: {job.out} ({result.adapted.learning.chosen.name}), digest {result.digest}")
        say(f"use it: routellm-fast route --router {job.out} --threshold {threshold} --file PROMPTS")
    say(f"report: {result.written[0]}")
