"""Turns the options of `routellm-fast augment` into calls, and prints the results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import typer

from routellm_fast.atomic import replaced_file
from routellm_fast.augmentation import (
    BattleCounts,
    BattleRow,
    Contests,
    Ending,
    EndpointSettings,
    JudgeProgress,
    JudgeReport,
    Mode,
    Template,
    estimate,
    read_journal,
    write_battles,
)
from routellm_fast.augmentation.command import JudgeJob, run_judge
from routellm_fast.cli._outputs import check_vacant_outputs
from routellm_fast.cli._printing import say, tell
from routellm_fast.cli._progress import progress_bar
from routellm_fast.data import Prompts, known_aliases, read_prompts
from routellm_fast.errors import DataError, InvalidArgumentError, RouteLLMError
from routellm_fast.prices import ModelPrice
from routellm_fast.tables import LeftOut, read_table

_INTERRUPTED: Final = 130
_MAX_SHOWN_MODELS: Final = 12
_T = TypeVar("_T")


def judge_and_write(job: JudgeJob, out: Path, report: Path | None) -> None:
    """Judge and write the battles. After an interruption, say how to go on and exit with 130."""
    try:
        with _bar(len(job.contests)) as on_progress:
            result = run_judge(job, on_progress=on_progress, on_interrupt=_say_interrupted)
    except KeyboardInterrupt:
        _say_resumable(job.journal)
        raise
    if result.repaired_bytes:
        tell(f"{job.journal}: a torn last line of {result.repaired_bytes:,} bytes was cut off", by="")
    for departure in result.departures:
        tell(departure, by="note: ")
    if result.ending is Ending.INTERRUPTED:
        _say_resumable(job.journal)
        raise typer.Exit(_INTERRUPTED)
    if result.ending is Ending.COST_CAP and job.max_cost_usd is not None:
        _say_capped(job.max_cost_usd, result.report, len(job.contests))
    finish(out, result.rows, result.report, report)
    say(f"  every answer: {job.journal}")


def template_of(mode: str, file: Path | None, *, as_json: bool) -> Template:
    """Return the question to the judge: the one of the file, or the one that ships."""
    modes = [known.value for known in Mode]
    if mode not in modes:
        raise InvalidArgumentError(f"--mode must be one of {', '.join(modes)}, found {mode!r}")
    if file is None:
        return Template.shipped(Mode(mode), as_json=as_json)
    return Template.from_file(file, Mode(mode), as_json=as_json)


def read_all_prompts(files: Sequence[Path] | None, left_out: LeftOut) -> Prompts | None:
    """Return the prompts of all files by prompt_id; None without files. Rows that cannot be read go to left_out."""
    if not files:
        return None
    known: dict[str, tuple[str, str]] = {}
    for file in files:
        known.update(read_prompts(file, left_out=left_out))
    return known


def model_names(models: Sequence[str] | None) -> list[str] | None:
    """Return the names that these models have in data; None for all models."""
    aliases = known_aliases()
    return [aliases.get(name, name) for name in models] if models else None


def prices_of(price_in: float | None, price_out: float | None) -> ModelPrice | None:
    """Return the price of a model; None where none was given."""
    if (price_in is None) != (price_out is None):
        raise InvalidArgumentError("give both prices, for reading (in) and for writing (out), or neither")
    return None if price_in is None or price_out is None else ModelPrice(price_in, price_out)


def generators_of(
    models: Sequence[str],
    *,
    base_urls: Sequence[str] | None,
    key_variables: Sequence[str] | None,
    prices_in: Sequence[float] | None,
    prices_out: Sequence[float] | None,
    common: Mapping[str, Any],
) -> dict[str, EndpointSettings]:
    """Return the endpoints that generate responses, by model."""
    count = len(models)
    urls = _each("--generate-base-url", base_urls, count)
    keys = _each("--generate-api-key-env", key_variables, count)
    ins = _each("--generate-price-in", prices_in, count)
    outs = _each("--generate-price-out", prices_out, count)
    aliases = known_aliases()
    generators: dict[str, EndpointSettings] = {}
    for model, url, key, price_in, price_out in zip(models, urls, keys, ins, outs, strict=True):
        name = aliases.get(model, model)
        if name in generators:
            raise InvalidArgumentError(f"--generate names {name!r} twice")
        prices = prices_of(price_in, price_out)
        generators[name] = EndpointSettings(
            model, base_url=url or None, api_key_variable=key or None, prices=prices, **common
        )
    return generators


def _each(option: str, values: Sequence[_T] | None, count: int) -> list[_T | None]:
    if not values:
        return [None] * count
    if len(values) not in (1, count) or not count:
        raise InvalidArgumentError(
            f"{option} is given {len(values)} times for {count} --generate: give it once, or once for each"
        )
    return list(values) if len(values) == count else [values[0]] * count


def finish(out: Path, rows: Sequence[BattleRow], found: JudgeReport, report: Path | None) -> None:
    """Write the report and the battles, and print what they hold. Raises DataError where there is no battle."""
    if report is not None:
        try:
            with replaced_file(report) as file:
                file.write((json.dumps(found.to_json(), indent=2, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise DataError(f"{report} cannot be written ({error.strerror}); every answer is in the journal") from error
    if not rows:
        raise DataError(
            f"no battle came of {found.contests:,} contests: {found.judged:,} judged, {found.unparsable:,} without a "
            f"readable verdict, {found.unfinished:,} without an answer; {out} is not written"
        )
    write_battles(out, rows)
    show_battles(out, BattleCounts.of(rows))
    say(
        f"  contests: {found.contests:,}, judged {found.judged:,} ({found.identical:,} with equal responses), "
        f"without a readable verdict {found.unparsable:,}, without an answer {found.unfinished:,}"
    )
    if found.position_bias is not None:
        say(
            f"  position bias: the order changed {found.order_changed:,} of {found.both_orders:,} verdicts "
            f"({found.position_bias:.1%}); {found.favoured_first:,} for the first response, {found.favoured_second:,} "
            "for the second"
        )
    if found.agreement_with_people is not None:
        say(
            f"  agreement with people: {found.agreed_with_people:,} of {found.compared_with_people:,} "
            f"({found.agreement_with_people:.1%})"
        )
    say(f"  calls: {found.calls:,}, {found.input_tokens:,} tokens in, {found.output_tokens:,} out")
    if found.unmetered_calls:
        say(f"  calls for which the server reported no tokens, counted at the most: {found.unmetered_calls:,}")
    if found.cut_off_responses:
        say(f"  generated responses cut off at the token limit: {found.cut_off_responses:,}")
    if found.calls and not found.spent_usd:
        say("  cost: not known without prices (--price-in, --price-out)")
        return
    lost = f", and at most ${found.lost_usd:.4f} for attempts without an answer" if found.lost_usd else ""
    say(f"  cost: ${found.spent_usd:.4f}{lost}")


def show_battles(out: Path, counts: BattleCounts) -> None:
    """Print what a file of battles holds."""
    say(f"{out}: {counts.battles:,} battles on {counts.prompts:,} prompts, {counts.ties:,} of them ties")
    shown = list(counts.models.items())[:_MAX_SHOWN_MODELS]
    rest = len(counts.models) - len(shown)
    more = f" and {rest} more" if rest else ""
    say(f"  battles by model: {', '.join(f'{name} {count:,}' for name, count in shown)}{more}")
    say(f"  battles by source: {', '.join(f'{name} {count:,}' for name, count in counts.sources.items())}")


def show_left_out(read: Contests) -> None:
    """Print how many contests of a file are not judged, and why."""
    say(
        f"  contests left out: {read.duplicates:,} there already, {read.forbidden:,} with forbidden prompts, "
        f"{read.incomplete:,} without a response"
    )


def show_estimate(job: JudgeJob) -> None:
    """Print how many calls, tokens and US dollars a run would take."""
    ledger = read_journal(job.journal) if job.journal.exists() else None
    found = estimate(job.contests, questioner=job.questioner, generators=job.generators, ledger=ledger)
    say(f"calls: {found.judgements + found.responses:,} ({found.responses:,} of them to generate responses)")
    say(f"  on record already: {found.on_record:,}")
    say(f"  tokens: about {found.input_tokens:,} in, at most {found.output_tokens:,} out")
    if found.cost_usd is None or found.most_usd is None:
        say("  cost: not known without prices (--price-in, --price-out)")
        return
    say(
        f"  cost: about ${found.cost_usd:.4f} if every answer is as long as it may be, and not more than "
        f"${found.most_usd:.4f} without retries"
    )
    if job.max_cost_usd is not None:
        spent_usd = 0.0 if ledger is None else ledger.spent_usd + ledger.lost_usd
        say(f"  cap: ${job.max_cost_usd:.4f}, of which ${spent_usd:.4f} is spent")


def _say_interrupted() -> None:
    tell("stopping when the requests under way are answered; ctrl-C again abandons them", by="")


def _say_resumable(journal: Path) -> None:
    tell(
        f"every answer so far is in {journal}. The same command goes on from there; "
        f"`augment judge --from-journal {journal} --out FILE` makes battles of what is there.",
        by="interrupted: ",
    )


def _say_capped(max_cost_usd: float, found: JudgeReport, total: int) -> None:
    spent_usd = found.spent_usd + found.lost_usd
    left = max(0, total - found.judged - found.unparsable)
    tell(
        f"stopped at the cost cap of ${max_cost_usd:.4f}: ${spent_usd:.4f} spent, ${max_cost_usd - spent_usd:.4f} "
        f"left, less than the next call could cost. {left:,} of {total:,} contests are not judged: the same command "
        "with a higher --max-cost-usd goes on",
        by="",
    )


def check_report_path(path: Path | None) -> None:
    """Raise DataError where the report cannot be written, before anything is paid for."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}, where the report should go, is no directory")
    if path.is_dir():
        raise DataError(f"{path}, where the report should go, is a directory: name a file")


def check_places(written: Mapping[str, Path | None], read: Iterable[Path | None]) -> None:
    """Raise InvalidArgumentError where two outputs have one path, or an output has the path of an input."""
    taken = {path.resolve(): "what is read" for path in read if path is not None}
    for what, path in written.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), what)
        if other != what:
            raise InvalidArgumentError(f"{path} cannot hold both {other} and {what}: give another path")


def check_vacant(journal: Path, out: Path, report: Path | None, *, force: bool) -> None:
    """Refuse to replace what a judging run would write over, before anything is paid for.

    A run that goes on with its journal writes its battles and its report anew, so these need no --force: battles are
    its own where their prompts are all in the journal.

    Raises:
        OutputExistsError: Something else stands there, and force is false.
        DataError: The journal is damaged.
    """
    prompts: set[str] = set()
    if journal.is_file() and journal.stat().st_size:
        prompts = {contest.prompt for contest in read_journal(journal).contests.values()}
    if not _holds_battles_on(out, prompts):
        check_vacant_outputs(out, force=force)
    if not (prompts and _is_report(report)):
        check_vacant_outputs(report, force=force)


def _holds_battles_on(path: Path, prompts: Collection[str]) -> bool:
    if not prompts or not path.is_file():
        return False
    try:
        return all(row.text("prompt") in prompts for row in read_table(path))
    except RouteLLMError:  # no table of battles
        return False


def _is_report(path: Path | None) -> bool:
    try:
        return path is not None and {"contests", "spent_usd"} <= set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[JudgeProgress], None]]:
    with progress_bar("judging") as move:

        def show(progress: JudgeProgress) -> None:
            move(f"judging, ${progress.spent_usd:.4f}, {progress.failed:,} without a verdict", progress.done, total)

        yield show
