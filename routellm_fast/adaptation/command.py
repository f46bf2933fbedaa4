"""A whole run of `routellm-fast adapt`: labels, router, proof, and what is kept for the next run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.adapting import Adapted, Wanted, adapt
from routellm_fast.adaptation.asking import AskJob, AskProgress, AskReport, plan
from routellm_fast.adaptation.collecting import Collected, Collection, Size
from routellm_fast.adaptation.folder import Kept, RunFolder, RunSettings
from routellm_fast.adaptation.labels import Labels, joined
from routellm_fast.adaptation.replacing import Replacement, compare
from routellm_fast.adaptation.report import Report, write_report
from routellm_fast.adaptation.sides import groups_of, untouched_rows
from routellm_fast.adaptation.sizing import Division, Outlook
from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.estimate import Estimate
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, RouteLLMError
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
        replacement: The new router held against the old one; None where there was none.
    """

    adapted: Adapted
    report: Report
    written: tuple[Path, ...]
    digest: str | None
    replacement: Replacement | None

    __repr__ = brief_repr


def start(job: RunJob) -> Kept | None:
    """Check what stands at the places of a run, before anything is paid for; return what an earlier one left.

    Raises:
        DataError: The earlier run is damaged, or an update has none to go on from.
        InvalidArgumentError: The earlier run is of other models or settings.
    """
    kept = job.folder.read()
    if job.update and (kept is None or not job.out.exists()):
        raise DataError(
            f"there is no earlier run to update: expected the router {job.out} and its folder {job.folder.path}. "
            "Leave out --update for a first run"
        )
    if kept is not None:
        settings = _settings(job)
        if kept.settings != settings:
            raise InvalidArgumentError(
                f"{job.folder.path} holds a run of {kept.settings.strong_model} and {kept.settings.weak_model} with "
                f"seed {kept.settings.seed} and an untouched share of {kept.settings.untouched_share:g}; this one is "
                f"of {settings.strong_model} and {settings.weak_model} with {settings.seed} and "
                f"{settings.untouched_share:g}: give the same, or another --work folder"
            )
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
    kept = start(job)
    labels = replace(labels, groups=groups_of(labels.prompts, labels.groups))
    known: dict[str, bool] = {}
    if kept is not None and job.update:
        known = dict(zip(kept.labels.prompts, kept.is_untouched.tolist(), strict=True))
        labels = joined([kept.labels, labels])
    is_untouched = untouched_rows(
        labels.prompts, labels.groups, share=job.untouched_share, seed=job.wanted.seed, known=known
    )
    return _finish(job, labels, is_untouched, traffic or Traffic.of(labels.prompts), on_progress)


def run_on_traffic(
    job: RunJob,
    collection: Collection,
    ask: AskJob,
    size: Size,
    traffic: Traffic,
    *,
    on_asked: Callable[[AskProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
    on_progress: OnStep | None = None,
) -> tuple[Collected, RunResult | None]:
    """Ask for labels, make a router of them, prove it, and write both.

    Returns what was collected, and the result; None where somebody interrupted the asking.

    Args:
        job: Where the results go.
        collection: The traffic, and the order in which its prompts are labelled.
        ask: Whom to ask.
        size: How many labels, in how many rounds.
        traffic: The prompts that the router is calibrated on.
        on_asked: See asking.ask.
        on_interrupt: See asking.ask.
        on_progress: Told of what is done after the asking.

    Raises:
        RouteLLMError: See `start`, asking.ask and adapting.adapt. What was paid for is in the journal.
    """
    kept = start(job)
    job.folder.make()
    found = collection.collect(ask, size, job.wanted.goal, on_progress=on_asked, on_interrupt=on_interrupt)
    if found.is_interrupted:
        return found, None
    labels = found.labels
    known: dict[str, bool] = {}
    if kept is not None and job.update:
        known = dict(zip(kept.labels.prompts, kept.is_untouched.tolist(), strict=True))
        labels = joined([kept.labels, labels])
    if not len(labels):
        raise DataError(
            f"no prompt has labels: {_lack(found.asked.report)}. Every answer is in {ask.journal}; the same command "
            "goes on from there"
        )
    is_untouched = untouched_rows(
        labels.prompts, labels.groups, share=job.untouched_share, seed=job.wanted.seed, known=known
    )
    report = found.asked.report
    spent = replace(job.wanted, labelling_usd=report.committed_usd or None)
    facts = {**job.labelling, **_asked_facts(found)}
    return found, _finish(replace(job, wanted=spent, labelling=facts), labels, is_untouched, traffic, on_progress)


def outlook(collection: Collection, ask: AskJob, size: Size) -> tuple[Estimate, Outlook]:
    """Return what collecting labels would take, and what they promise, without any call."""
    cases = collection.first(size.labels)
    return plan(ask, cases), Outlook.of(len(cases), Division())


def _finish(
    job: RunJob,
    labels: Labels,
    is_untouched: NDArray[np.bool_],
    traffic: Traffic,
    on_progress: OnStep | None,
) -> RunResult:
    # Labels are kept first: whatever fails from here on, they are there.
    job.folder.write(_settings(job), labels, is_untouched)
    try:
        adapted = adapt(labels, is_untouched, traffic, job.wanted, dataset=job.dataset, on_progress=on_progress)
    except RouteLLMError as error:
        error.args = (f"{error}. The {len(labels):,} labels so far are kept in {job.folder.path}",)
        raise
    replacement = None
    if job.update:
        replacement = _against(load_router(job.out), adapted, labels.select(is_untouched), job.wanted.seed)
    takes_place = replacement is None or replacement.takes_place
    digest = adapted.router.save(job.out) if takes_place else None
    report = Report(
        adapted.proof,
        job.wanted.created,
        router=str(job.out) if takes_place else "",
        labelling=job.labelling,
        monthly=adapted.monthly,
    )
    return RunResult(adapted, report, tuple(write_report(report, job.folder.path)), digest, replacement)


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
