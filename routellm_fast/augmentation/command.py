"""A whole judging run: it opens the journal, asks all models, and makes battles of what the journal then holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from routellm_fast.augmentation.battle_rows import BattleRow
from routellm_fast.augmentation.clock import Clock
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.judge import JudgeConfig
from routellm_fast.augmentation.outcomes import JudgeReport, judged_battles
from routellm_fast.augmentation.questions import Questioner
from routellm_fast.augmentation.scores import ScoreRules
from routellm_fast.augmentation.session import ask_all
from routellm_fast.augmentation.workers import Ending, JudgeProgress


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """What to judge, which model judges, and how verdicts become battles.

    Attributes:
        contests: See contests.read_contests.
        questioner: The judge and its template.
        journal: The file of the journal; a run continues from what it holds.
        generators: The endpoint that generates missing responses, by model.
        config: Limits of the run; see JudgeConfig.
        rules: How verdicts become battles.
        on_disagreement: See outcomes.judged_battles.
        max_cost_usd: The most US dollars that the journal may count, earlier runs included; None for no cap.
    """

    contests: tuple[Contest, ...]
    questioner: Questioner
    journal: Path
    generators: Mapping[str, EndpointSettings] = field(default_factory=dict)
    config: JudgeConfig = field(default_factory=JudgeConfig)
    rules: ScoreRules = field(default_factory=ScoreRules)
    on_disagreement: str = "tie"
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """What a judging run made.

    Attributes:
        ending: Why the run ended.
        rows: The battles that all verdicts of the journal make.
        report: Counts and costs of the same verdicts.
        repaired_bytes: Length of an incomplete last line that was cut off the journal.
        departures: What servers do otherwise than their settings ask, e.g. that one takes no temperature.
    """

    ending: Ending
    rows: tuple[BattleRow, ...]
    report: JudgeReport
    repaired_bytes: int
    departures: tuple[str, ...] = ()


def run_judge(
    job: JudgeJob,
    *,
    clock: Clock | None = None,
    on_progress: Callable[[JudgeProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> JudgeResult:
    """Judge all contests of a job, and make battles of what the journal then holds.

    For ctrl-C see session.ask_all.

    Args:
        job: What to do.
        clock: The clock; None for the machine's.
        on_progress: Called after every contest.
        on_interrupt: Called at the first ctrl-C.

    Raises:
        KeyboardInterrupt: ctrl-C was pressed a second time.
        EndpointError: See judge.judge_contests.
        DataError: The journal cannot be used.
        InvalidArgumentError: A rule does not fit the mode, or a cap has no prices to go with it.
    """
    with Journal(job.journal, job.questioner.settings) as journal:
        # Rules that do not fit are found out before anything is paid for.
        judged_battles(journal.ledger, rules=job.rules, on_disagreement=job.on_disagreement)
        ending, departures = ask_all(
            job.contests,
            journal=journal,
            questioner=job.questioner,
            generators=job.generators,
            config=job.config,
            max_cost_usd=job.max_cost_usd,
            clock=clock,
            on_progress=on_progress,
            on_interrupt=on_interrupt,
        )
        rows, report = judged_battles(journal.ledger, rules=job.rules, on_disagreement=job.on_disagreement)
        return JudgeResult(ending, tuple(rows), report, journal.repaired_bytes, departures)
