"""More preference data: battles from golden labels, and from a judge that is itself a language model."""

from __future__ import annotations

from routellm_fast.augmentation.battle_rows import BattleCounts, BattleRow, write_battles
from routellm_fast.augmentation.budget import Budget
from routellm_fast.augmentation.clock import Stop
from routellm_fast.augmentation.contests import Contest, Contests, read_contests
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.estimate import Estimate, estimate
from routellm_fast.augmentation.golden import GoldenBattles, golden_battles
from routellm_fast.augmentation.guard import forbidden_groups
from routellm_fast.augmentation.journal import Journal, read_journal
from routellm_fast.augmentation.judge import JudgeConfig, judge_contests
from routellm_fast.augmentation.outcomes import JudgeReport, judged_battles
from routellm_fast.augmentation.questions import Questioner
from routellm_fast.augmentation.scores import ScoreRules
from routellm_fast.augmentation.templates import Template
from routellm_fast.augmentation.verdict import Mode, parse_verdict
from routellm_fast.augmentation.workers import Ending, JudgeProgress

__all__ = [
    "BattleCounts",
    "BattleRow",
    "Budget",
    "ChatEndpoint",
    "Contest",
    "Contests",
    "Ending",
    "EndpointSettings",
    "Estimate",
    "GoldenBattles",
    "Journal",
    "JudgeConfig",
    "JudgeProgress",
    "JudgeReport",
    "Mode",
    "Questioner",
    "ScoreRules",
    "Stop",
    "Template",
    "estimate",
    "forbidden_groups",
    "golden_battles",
    "judge_contests",
    "judged_battles",
    "parse_verdict",
    "read_contests",
    "read_journal",
    "write_battles",
]
