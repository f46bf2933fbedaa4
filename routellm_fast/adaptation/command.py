"""A whole run of `routellm-fast adapt`: labels, router, proof, and what is kept for the next run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from routellm_fast.adaptation.adapting import Adapted, Wanted, adapt
from routellm_fast.adaptation.asking import AskJob, AskProgress, AskReport, affordable_cases, plan
from routellm_fast.adaptation.cases import Case
from routellm_fast.adaptation.collecting import Collected, Collection, Size
from routellm_fast.adaptation.folder import Kept, RunFolder, RunSettings
from routellm_fast.adaptation.labels import Labels, joined
from routellm_fast.adaptation.replacing import Replacement, compare
from routellm_fast.adaptation.report import Report, write_report
from routellm_fast.adaptation.sides import groups_of, untouched_rows
from routellm_fast.adaptation.sizing import Division, Outlook
from routellm_fast.arrays import brief_repr
from routellm_fast.artifact import ROUTER_LAYOUT, check_replaceable
from routellm_fast.augmentation.estimate import Estimate
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import load_router
from routellm_fast.scoring import OnStep
from routellm_fast.thresholds.traffic import Traffic


@dataclass(frozen=True, slots=True, eq=False)
class RunJob:
    """Where a run's results go, and what it makes.

    Attributes:
        out: The router directory.
        folder: The folder of the run; see folder.RunFolder.
        wanted: What to make of labels.
        pair: The two models.
        dataset: Name of the traffic, for the record.
        labelling: How the labels were made, for the report: by what each entry says.
        update: Whether to go on from an earlier run: its labels are kept, and the new router takes the old one's place
            only if it is not worse.
        untouched_share: Expected share of the labels that stay untouched.
    """

    out: Path
    folder: RunFolder
    wanted: Wanted
    pair: ModelPair
    dataset: str
    labelling: Mapping[str, str] = field(default_factory=dict)
    update: bool = False
    untouched_share: float = Division().untouched_share

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run came to.

    Attributes:
        adapted: The router and its proof.
        report: What is written of them.
        written: The files of the report, the page first.
        digest: Digest of the router directory; None where the old router stays.
    """

    adapted: Adapted
    report: Report
    written: tuple[Path, ...]
    digest: str | None

    __repr__ = brief_repr


def start(job: RunJob, *, has_costs: bool) -> Kept | None:
    """Check all that can be checked before anything is paid for; return what an update goes on from.

    Args:
        job: The run.
        has_costs: Whether the labels to come will have what their answers cost.

    Raises:
        DataError: The earlier run is damaged, or an update has none to go on from.
        InvalidArgumentError: The earlier run is of other models or settings, the places of router and folder are in
            one another, or see adapting.Wanted.check.
        ArtifactWriteError: The router cannot be written to its place.
    """
    check_replaceable(job.out, ROUTER_LAYOUT)
    out, path = job.out.resolve(), job.folder.path.resolve()
    if out == path or out in path.parents or path in out.parents:
        raise InvalidArgumentError(
            f"the router {job.out} and the folder {job.folder.path}, which keeps your prompts, must lie beside one "
            "another, not one within the other"
        )
    kept = job.folder.read()
    if kept is not None and kept.settings != _settings(job):
        raise InvalidArgumentError(
            f"{job.folder.path} holds a run of {kept.settings}, and this one is of {_settings(job)}: give the same, or "
            "another --work folder"
        )
    if not job.update:
        job.wanted.check(has_costs=has_costs)
        return None
    if kept is None or not job.out.exists():
        raise DataError(
            f"there is no earlier run to update: expected the router {job.out} and its folder {job.folder.path}. "
            "Leave out --update for a first run"
        )
    job.wanted.check(has_costs=has_costs and kept.labels.costs_usd is not None)
    return kept


def run_on_labels(
    job: RunJob, labels: Labels, traffic: Traffic | None = None, *, on_progress: OnStep | None = None
) -> RunResult:
    """Make a router of labels that are there, prove it, and write both.

    Args:
        job: Where the results go.
        labels: The labels.
        traffic: The prompts that the router is calibrated on; None for those of the labels.
        on_progress: Told of what is done.

    Raises:
        RouteLLMError: See `start` and adapting.adapt. Labels are kept all the same.
    """
    kept = start(job, has_costs=labels.costs_usd is not None)
    return _finish(job, kept, labels, traffic, on_progress)


def run_on_traffic(
    job: RunJob,
    cases: Sequence[Case],
    ask: AskJob,
    size: Size,
    traffic: Traffic,
    *,
    calibrated_on: Traffic | None = None,
    on_asked: Callable[[AskProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
    on_progress: OnStep | None = None,
) -> tuple[Collected, RunResult | None]:
    """Ask for labels, make a router of them, prove it, and write both.

    Returns what was collected, and the result; None where somebody interrupted the asking.

    Args:
        job: Where the results go.
        cases: What is known of each prompt of the traffic.
        ask: Whom to ask.
        size: How many labels, in how many rounds.
        traffic: The prompts, each with the number of times it was asked.
        calibrated_on: The prompts that the router is calibrated on; None for those of the traffic.
        on_asked: See asking.ask.
        on_interrupt: See asking.ask.
        on_progress: Told of what is done after the asking.

    Raises:
        RouteLLMError: See `start`, asking.ask and adapting.adapt. What was paid for is in the journal.
    """
    kept = start(job, has_costs=ask.has_costs)
    collection = _collection(job, kept, cases, traffic)
    collection.first(size.labels)
    job.folder.make()
    found = collection.collect(ask, size, job.wanted.goal, on_progress=on_asked, on_interrupt=on_interrupt)
    if found.is_interrupted:
        return found, None
    if not len(found.labels):
        raise DataError(
            f"there is no label, since {found.ending}: {_lack(found.asked.report)}. What was answered is kept in "
            f"{job.folder.path}; the same command goes on from there"
        )
    report = found.asked.report
    spent = replace(job.wanted, labelling_usd=report.committed_usd or None)
    facts = {**job.labelling, **_asked_facts(found)}
    asked = replace(job, wanted=spent, labelling=facts)
    try:
        return found, _finish(asked, kept, found.labels, calibrated_on or traffic, on_progress)
    except DataError as error:
        raise DataError(f"{error}. No more were asked for, since {found.ending}") from error


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would ask for, and what it promises.

    Attributes:
        estimate: Calls, tokens and costs.
        outlook: How many labels, and how narrow intervals are likely to be.
        prompts: Number of different requests in the traffic.
        affordable: For about how many of the labels the cap is enough; None without one.
    """

    estimate: Estimate
    outlook: Outlook
    prompts: int
    affordable: int | None


def dry_run(job: RunJob, cases: Sequence[Case], ask: AskJob, size: Size, traffic: Traffic) -> DryRun:
    """Return what a run would ask for, without any call and without a file. Raises as run_on_traffic does."""
    kept = start(job, has_costs=ask.has_costs)
    collection = _collection(job, kept, cases, traffic)
    first = collection.first(size.labels)
    outlook = Outlook.of(len(first), Division())
    return DryRun(plan(ask, first), outlook, len(collection.plan), affordable_cases(ask, first))


def _collection(job: RunJob, kept: Kept | None, cases: Sequence[Case], traffic: Traffic) -> Collection:
    known = None if kept is None else kept.sides
    return Collection(cases, traffic, job.wanted.prior, seed=job.wanted.seed, known=known)


def _finish(
    job: RunJob, kept: Kept | None, labels: Labels, traffic: Traffic | None, on_progress: OnStep | None
) -> RunResult:
    if kept is not None:
        labels = joined([kept.labels, labels])
    labels = replace(labels, groups=groups_of(labels.prompts, labels.groups))
    is_untouched = untouched_rows(
        labels.prompts,
        labels.groups,
        share=job.untouched_share,
        seed=job.wanted.seed,
        known=None if kept is None else kept.sides,
    )
    # Labels are kept first: whatever fails from here on, they are there.
    job.folder.write(_settings(job), labels, is_untouched)
    calibrated_on = traffic or Traffic.of(labels.prompts)
    try:
        adapted = adapt(labels, is_untouched, calibrated_on, job.wanted, dataset=job.dataset, on_progress=on_progress)
    except DataError as error:
        raise DataError(f"{error}. The {len(labels):,} labels so far are kept in {job.folder.path}") from error
    replacement = None
    if kept is not None:
        replacement = _against(load_router(job.out), adapted, labels.select(is_untouched), job.wanted.seed)
    takes_place = replacement is None or replacement.takes_place
    digest = adapted.router.save(job.out) if takes_place else None
    report = Report(
        adapted.proof,
        job.wanted.created,
        router=str(job.out) if takes_place else "",
        labelling=job.labelling,
        monthly=adapted.monthly,
        replacement=replacement,
    )
    return RunResult(adapted, report, tuple(write_report(report, job.folder.path)), digest)


def _against(old: Router, adapted: Adapted, untouched: Labels, seed: int) -> Replacement:
    threshold = old.provenance.get("threshold", 0.5)
    return compare(
        untouched,
        adapted.router.win_rates(untouched.prompts),
        old.win_rates(untouched.prompts),
        threshold=float(threshold) if isinstance(threshold, (int, float)) else 0.5,
        seed=seed,
    )


def _settings(job: RunJob) -> RunSettings:
    return RunSettings(*job.pair, job.wanted.seed, job.untouched_share)


def _lack(report: AskReport) -> str:
    reasons = {
        "calls failed on {}": report.failed,
        "the judge's verdict on {} could not be read": report.unreadable,
        "{} were not asked about before the run ended": report.unfinished,
    }
    found = [text.format(f"{count:,}") for text, count in reasons.items() if count]
    return f"of {report.prompts:,} prompts " + ", ".join(found) if found else "none was asked about"


def _asked_facts(found: Collected) -> dict[str, str]:
    report: AskReport = found.asked.report
    facts: dict[str, Any] = {
        "Prompts": f"{report.prompts:,} asked about, {report.labelled:,} labelled in {found.rounds:,} rounds",
        "Ended because": found.ending,
        "Same answer of both models": f"{report.identical:,}",
    }
    if report.failed or report.unreadable or report.unfinished:
        facts["Without a label"] = _lack(report)
    if report.redacted:
        facts["Taken out before sending"] = ", ".join(f"{count:,} {name}" for name, count in report.redacted.items())
    return facts
