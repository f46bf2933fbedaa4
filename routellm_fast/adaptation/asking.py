"""From chosen prompts to labels: asks both models, and has their answers judged or checks them.

Each answer is in the journal before anything else is done with it, so a run that ends for whatever reason goes on with
the same journal, and so do further prompts, a higher cap, another checker or another judge: what was answered is not
asked again. Nobody but the two models and the judge is sent a prompt, and they are sent what `redaction` leaves of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from routellm_fast.adaptation.cases import Case, check_distinct
from routellm_fast.adaptation.checking import Checker
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.redaction import Redaction
from routellm_fast.adaptation.sizing import affordable
from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.clock import Clock
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.estimate import Estimate, estimate
from routellm_fast.augmentation.journal import Journal, read_journal
from routellm_fast.augmentation.judge import JudgeConfig
from routellm_fast.augmentation.ledger import ANSWERS_SETTINGS, Ledger
from routellm_fast.augmentation.outcomes import qualities
from routellm_fast.augmentation.questions import Questioner, response_key
from routellm_fast.augmentation.session import ask_all
from routellm_fast.augmentation.workers import Ending, JudgeProgress
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, EndpointError, InvalidArgumentError

Stage = Literal["asking", "checking"]
_SOURCE: Final = "traffic"


@dataclass(frozen=True, slots=True)
class AskJob:
    """Whom to ask, and who says how good the answers are.

    Attributes:
        pair: The two models.
        journal: The file that keeps every answer of a model or judge. It takes one judge after another; one that
            `augment judge` began is taken, too, with the same judge or none.
        strong: The strong model's endpoint; None where all its answers are there.
        weak: The weak model's endpoint, likewise.
        judge: The judge and its template. A judge who compares gives the better answer 1 and the other 0, and both 0.5
            in a tie or where the verdict changes with the order; one who scores gives each 0 to 1.
        checker: Scores answers without a judge. With neither, answers are asked for and kept, and nothing is labelled.
        redaction: What is taken out of prompts, references and answers before a model or judge sees them.
        config: Limits of the run; its contests are prompts here.
        max_cost_usd: The most US dollars that the journal may count, earlier runs included; None for no cap.
    """

    pair: ModelPair
    journal: Path
    strong: EndpointSettings | None = None
    weak: EndpointSettings | None = None
    judge: Questioner | None = None
    checker: Checker | None = None
    redaction: Redaction = field(default_factory=Redaction)
    config: JudgeConfig = field(default_factory=JudgeConfig)
    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse two who say how good an answer is, and one model in the place of two."""
        if self.judge is not None and self.checker is not None:
            raise InvalidArgumentError("answers are judged or checked: give a judge or a checker, not both")
        if self.strong is not None and self.strong == self.weak:
            raise InvalidArgumentError(
                f"{self.pair.strong!r} and {self.pair.weak!r} are both model {self.strong.model!r} of one server, "
                "asked in the same way: there is nothing to compare"
            )

    @property
    def has_costs(self) -> bool:
        """Whether it will be known what the answers of both models cost."""
        return all(settings is not None and settings.prices is not None for settings in (self.strong, self.weak))

    @property
    def generators(self) -> dict[str, EndpointSettings]:
        """The endpoints of the models that can be asked, by model."""
        both = zip(self.pair, (self.strong, self.weak), strict=True)
        found = {model: settings for model, settings in both if settings is not None}
        if len({(settings.model, settings.temperature) for settings in found.values()}) < len(found):
            # Two servers may call their models the same, and one model may be asked at two limits.
            return {model: replace(settings, variant=model) for model, settings in found.items()}
        return found


@dataclass(frozen=True, slots=True)
class AskProgress:
    """How far a run is.

    Attributes:
        stage: "asking" models and judge, or "checking" answers.
        done: Number of prompts that were tried.
        total: Number of all prompts.
        failed: Number of prompts that were left without an answer or verdict.
        spent_usd: The most US dollars that all calls that have ended can have cost, earlier runs included.
    """

    stage: Stage
    done: int
    total: int
    failed: int
    spent_usd: float


@dataclass(frozen=True, slots=True)
class AskReport:
    """What became of the prompts, and what the journal counts.

    `labelled + failed + unreadable + unfinished` is `prompts`, but with neither judge nor checker, where the prompts
    that have both answers are none of these.

    Attributes:
        prompts: Number of prompts.
        answered: Number of prompts with both answers.
        labelled: Number of prompts with labels.
        identical: Number of labelled prompts on which both models gave the same answer.
        failed: Number of prompts without labels because a call failed for good. The next run asks again.
        unreadable: Number of prompts without labels because the judge's answers held no verdict.
        unfinished: Number of prompts without labels because the run ended before.
        redacted: Number of places taken out of what was sent of all prompts, references and given answers, by rule.
        redacted_prompts: Number of prompts of which, or of whose reference or given answers, something was taken out.
        new_calls: Number of calls that were answered in this run.
        calls: Number of answered calls of the whole journal, as are all that follow.
        input_tokens: Tokens sent in answered calls.
        output_tokens: Tokens received in answered calls.
        unmetered_calls: Number of calls whose server did not tell tokens; the most there could be is counted.
        cut_off_answers: Number of the models' answers that ended at the token limit.
        spent_usd: US dollars that answered calls cost.
        lost_usd: The most US dollars that unanswered attempts may have cost.
        unsettled_usd: The most US dollars that attempts may have cost of which the journal does not say how they ended,
            because the process was killed.
    """

    prompts: int
    answered: int
    labelled: int
    identical: int
    failed: int
    unreadable: int
    unfinished: int
    redacted: Mapping[str, int]
    redacted_prompts: int
    new_calls: int
    calls: int
    input_tokens: int
    output_tokens: int
    unmetered_calls: int
    cut_off_answers: int
    spent_usd: float
    lost_usd: float
    unsettled_usd: float

    @property
    def committed_usd(self) -> float:
        """The most US dollars that all calls can have cost, which is what a cap is compared with."""
        return self.spent_usd + self.lost_usd + self.unsettled_usd

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "redacted": dict(self.redacted)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking made.

    Attributes:
        labels: The labels of all prompts that have both answers and a verdict or scores, in the order of the prompts.
        report: Counts and costs.
        ending: Why the run ended. After a cost cap or an interruption the labels are those so far.
        repaired_bytes: Length of an incomplete last line that was cut off the journal.
        departures: What servers do otherwise than their settings ask, e.g. that one takes no temperature.
    """

    labels: Labels
    report: AskReport
    ending: Ending
    repaired_bytes: int = 0
    departures: tuple[str, ...] = ()

    __repr__ = brief_repr


def ask(
    job: AskJob,
    cases: Sequence[Case],
    *,
    clock: Clock | None = None,
    on_progress: Callable[[AskProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> Asked:
    """Ask for all answers and verdicts that are missing, and return the labels of these prompts.

    In the main thread of a program the first ctrl-C ends the asking as soon as the requests that were sent are
    answered; what is there is checked then. A second one abandons them.

    Args:
        job: Whom to ask.
        cases: The prompts, each once.
        clock: The clock; None for the machine's.
        on_progress: Called after every prompt that was asked about, and after every prompt whose answers were checked.
        on_interrupt: Called at the first ctrl-C.

    Raises:
        KeyboardInterrupt: ctrl-C was pressed a second time, or while answers were checked.
        EndpointError: An endpoint refuses every call, or too many prompts were left without an answer or verdict; the
            text says how many have labels, and how to go on.
        DataError: The journal cannot be used, a reference is missing or none, or the checker failed on an answer; the
            text names the prompt. All but the last is found out before anything is paid for.
        InvalidArgumentError: A prompt is there twice, an answer is missing that nobody is asked for, or a cap has no
            prices to go with it.
    """
    sent = _prepared(job, cases)
    settings = ANSWERS_SETTINGS if job.judge is None else job.judge.settings
    if job.judge is None and all(
        contest.response_a is not None and contest.response_b is not None for contest in sent.contests
    ):
        ledger = read_journal(job.journal) if _has_journal(job.journal) else Ledger()
        return _labelled(job, cases, sent, ledger, Ending.FINISHED, new_calls=0, on_progress=on_progress)
    if not _has_journal(job.journal):
        with Journal(job.journal, ANSWERS_SETTINGS):
            pass  # so that another judge may follow, who needs the same answers
    with Journal(job.journal, settings) as journal:
        before = journal.ledger.calls

        def show(progress: JudgeProgress) -> None:
            if on_progress is not None:
                on_progress(AskProgress("asking", progress.done, progress.total, progress.failed, progress.spent_usd))

        try:
            ending, departures = ask_all(
                sent.contests,
                journal=journal,
                questioner=job.judge,
                generators=job.generators,
                config=job.config,
                max_cost_usd=job.max_cost_usd,
                clock=clock,
                on_progress=show,
                on_interrupt=on_interrupt,
            )
        except EndpointError as error:
            ready = sum(_state(job, contest, journal.ledger).is_ready for contest in sent.contests)
            what = "answers" if job.judge is None else "a verdict"
            raise EndpointError(
                f"{error}. {ready:,} of {len(cases):,} prompts have {what}: the same command goes on from "
                f"{job.journal}, and asks again only what failed"
            ) from error
        ledger = journal.ledger
    return _labelled(
        job,
        cases,
        sent,
        ledger,
        ending,
        new_calls=ledger.calls - before,
        on_progress=on_progress,
        repaired_bytes=journal.repaired_bytes,
        departures=departures,
    )


def plan(job: AskJob, cases: Sequence[Case]) -> Estimate:
    """Return how many calls, tokens and US dollars `ask` would take, without any call. Raises as `ask` does."""
    ledger = read_journal(job.journal) if _has_journal(job.journal) else None
    sent = _prepared(job, cases)
    return estimate(sent.contests, questioner=job.judge, generators=job.generators, ledger=ledger)


def affordable_cases(job: AskJob, cases: Sequence[Case]) -> int | None:
    """Return of how many of the cases, in their order, the cap pays for what `plan` expects; None without a cap.

    Raises InvalidArgumentError where a model that is asked has no price.
    """
    if job.max_cost_usd is None:
        return None
    ledger = read_journal(job.journal) if _has_journal(job.journal) else Ledger()
    left_usd = job.max_cost_usd - ledger.spent_usd - ledger.lost_usd - ledger.unsettled_usd
    contests = _prepared(job, cases).contests
    return affordable(contests, left_usd, questioner=job.judge, generators=job.generators, ledger=ledger)


def _has_journal(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """What models and judge see of the cases: a contest each."""

    contests: tuple[Contest, ...]
    redacted: Counter[str]
    redacted_prompts: int


def _prepared(job: AskJob, cases: Sequence[Case]) -> _Sent:
    """Return what is to be sent, and refuse what cannot be labelled, before anything is paid for."""
    check_distinct([case.prompt for case in cases])
    counts: Counter[str] = Counter()
    redacted_prompts = 0
    contests: list[Contest] = []
    for case in cases:
        _check_reference(job.checker, case)
        for model, answer in zip(job.pair, (case.strong_answer, case.weak_answer), strict=True):
            if answer is None and model not in job.generators:
                raise InvalidArgumentError(
                    f"{case.name}: an answer of {model!r} is missing, and no endpoint is asked for it"
                )
        before = sum(counts.values())
        prompt = job.redaction.redacted(case.prompt, counts)
        # Answers that are there, and references, are sent to a judge alone: a checker runs here.
        reference, *answers = (
            text if text is None or job.judge is None else job.redaction.redacted(text, counts)
            for text in (case.reference, case.strong_answer, case.weak_answer)
        )
        redacted_prompts += sum(counts.values()) > before
        contests.append(Contest(prompt, case.group, _SOURCE, *job.pair, answers[0], answers[1], reference))
    return _Sent(tuple(contests), counts, redacted_prompts)


def _check_reference(checker: Checker | None, case: Case) -> None:
    if checker is None:
        return
    if case.reference is None:
        if checker.needs_reference:
            raise DataError(
                f"{case.name} has no reference, and the checker {checker.name} compares answers with one: give it in a "
                "column `reference`"
            )
        return
    if checker.needs_reference and (problem := checker.problem_of(case.reference)) is not None:
        raise DataError(f"{case.name}: its reference does not fit the checker {checker.name}: {problem}")


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a contest.

    Attributes:
        answers: Both answers; None while one is missing.
        scores: What the judge says of both; None without a judge, or while a verdict is missing.
        lack: Why something is missing: "failed", "unreadable" or "unfinished"; "" where nothing is.
    """

    answers: tuple[str, str] | None
    scores: tuple[float, float] | None
    lack: Literal["", "failed", "unreadable", "unfinished"]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.lack


def _state(job: AskJob, contest: Contest, ledger: Ledger) -> _State:
    found: list[str] = []
    for model, answer in ((contest.model_a, contest.response_a), (contest.model_b, contest.response_b)):
        if answer is None:
            key = response_key(job.generators[model], contest.prompt)
            if key not in ledger.responses:
                return _State(None, None, "failed" if key in ledger.failures else "unfinished")
            found.append(ledger.responses[key].text)
        else:
            found.append(answer)
    answers = (found[0], found[1])
    if job.judge is None:
        return _State(answers, None, "")
    calls = {label: question.key for label, question in job.judge.questions(contest, *answers).items()}
    scores = qualities(ledger, calls, job.judge.template.mode)
    if scores is not None:
        return _State(answers, scores, "")
    for key in calls.values():
        judgement = ledger.judgements.get(key)
        if judgement is not None and judgement.verdict is None:
            return _State(answers, None, "unreadable")
    return _State(answers, None, "failed" if any(key in ledger.failures for key in calls.values()) else "unfinished")


def _labelled(
    job: AskJob,
    cases: Sequence[Case],
    sent: _Sent,
    ledger: Ledger,
    ending: Ending,
    *,
    new_calls: int,
    on_progress: Callable[[AskProgress], None] | None,
    repaired_bytes: int = 0,
    departures: tuple[str, ...] = (),
) -> Asked:
    states = [_state(job, contest, ledger) for contest in sent.contests]
    if job.checker is None:
        scores = [state.scores for state in states]
    else:
        scores = _checked(job.checker, cases, states, ledger, on_progress)
    rows = [row for row, found in enumerate(scores) if found is not None]
    table = np.array([scores[row] for row in rows], dtype=np.float64).reshape(len(rows), 2)
    labels = Labels(
        job.pair,
        tuple(cases[row].prompt for row in rows),
        tuple(cases[row].group for row in rows),
        np.ascontiguousarray(table[:, 0]),
        np.ascontiguousarray(table[:, 1]),
        _costs_usd(job, [sent.contests[row] for row in rows], ledger),
    )
    lacks = Counter(state.lack for state in states)
    report = AskReport(
        prompts=len(cases),
        answered=sum(state.answers is not None for state in states),
        labelled=len(rows),
        identical=sum(_is_identical(states[row]) for row in rows),
        failed=lacks["failed"],
        unreadable=lacks["unreadable"],
        unfinished=lacks["unfinished"],
        redacted=dict(sent.redacted),
        redacted_prompts=sent.redacted_prompts,
        new_calls=new_calls,
        calls=ledger.calls,
        input_tokens=ledger.input_tokens,
        output_tokens=ledger.output_tokens,
        unmetered_calls=ledger.unmetered,
        cut_off_answers=ledger.cut_off_responses,
        spent_usd=ledger.spent_usd,
        lost_usd=ledger.lost_usd,
        unsettled_usd=ledger.unsettled_usd,
    )
    return Asked(labels, report, ending, repaired_bytes, departures)


def _is_identical(state: _State) -> bool:
    return state.answers is not None and state.answers[0].strip() == state.answers[1].strip()


def _checked(
    checker: Checker,
    cases: Sequence[Case],
    states: Sequence[_State],
    ledger: Ledger,
    on_progress: Callable[[AskProgress], None] | None,
) -> list[tuple[float, float] | None]:
    """Return the scores of all cases that have both answers."""
    spent_usd = ledger.spent_usd + ledger.lost_usd + ledger.unsettled_usd

    def check(row: int) -> tuple[float, float] | None:
        case, answers = cases[row], states[row].answers
        if answers is None:
            return None
        try:
            strong = checker(case.prompt, answers[0], case.reference)
            weak = strong if answers[1] == answers[0] else checker(case.prompt, answers[1], case.reference)
        except DataError as error:
            raise DataError(f"{case.name}: {error}. Every answer that was paid for is kept") from error
        return strong, weak

    found: list[tuple[float, float] | None] = []
    with ThreadPoolExecutor(checker.max_threads) as pool:
        # One thread at a time is this one: a checker may need to be the main one.
        results = map(check, range(len(cases))) if checker.max_threads == 1 else pool.map(check, range(len(cases)))
        try:
            for row, scores in enumerate(results):
                found.append(scores)
                if on_progress is not None:
                    on_progress(AskProgress("checking", row + 1, len(cases), 0, spent_usd))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _costs_usd(
    job: AskJob, contests: Sequence[Contest], ledger: Ledger
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return (n, 2) US dollars of the answers, by the tokens on record and the prices of now; None where not known."""
    prices = [None if settings is None else settings.prices for settings in (job.strong, job.weak)]
    costs = np.empty((len(contests), 2))
    for row, contest in enumerate(contests):
        for column, answer in enumerate((contest.response_a, contest.response_b)):
            price = prices[column]
            if answer is not None or price is None:
                return None
            settings = job.generators[job.pair[column]]
            response = ledger.responses[response_key(settings, contest.prompt)]
            costs[row, column] = price.cost_usd(response.input_tokens, response.output_tokens)
    return costs
