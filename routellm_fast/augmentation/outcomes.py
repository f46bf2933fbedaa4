"""From a journal's judgements to battles, without any call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from routellm_fast.augmentation.battle_rows import BattleRow
from routellm_fast.augmentation.ledger import Ledger, Recorded
from routellm_fast.augmentation.scores import ScoreRules
from routellm_fast.augmentation.verdict import HIGHEST_SCORE, LOWEST_SCORE, Mode, Verdict
from routellm_fast.errors import InvalidArgumentError

DISAGREEMENTS: Final = ("tie", "drop")


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What judging found, and what it cost. Counts are numbers of contests unless they say otherwise.

    Attributes:
        judge: Name of the judge's model.
        mode: "pairwise" or "score".
        contests: All contests of the journal.
        judged: Contests with all their verdicts.
        identical: Contests whose responses are the same: ties that took no call.
        unparsable: Contests with a judgement in which no verdict could be read.
        unfinished: Contests that still lack an answer: never asked, or the call failed.
        battles: Number of battles made.
        ties: Number of battles without a winner.
        both_orders: Contests judged in both orders of the responses.
        order_changed: Those of both_orders in which the order changed the verdict.
        favoured_first: Those of order_changed in which the response shown first won both times.
        favoured_second: Those of order_changed in which the response shown second won both times.
        compared_with_people: Judged contests for which people's verdict is known too.
        agreed_with_people: Those of compared_with_people in which the judge decided as people did.
        calls: Number of answered calls, generated responses included.
        input_tokens: Tokens sent in answered calls.
        output_tokens: Tokens received in answered calls.
        unmetered_calls: Number of calls whose server did not tell tokens; the most there could be is counted.
        cut_off_responses: Number of generated responses that ended at the token limit.
        spent_usd: US dollars that answered calls cost.
        lost_usd: The most US dollars that unanswered attempts may have cost.
        unsettled_calls: Number of attempts of which the journal does not say how they ended: those under way when a run
            was killed, and those under way now.
        unsettled_usd: The most US dollars that these may have cost.
    """

    judge: str
    mode: str
    contests: int
    judged: int
    identical: int
    unparsable: int
    unfinished: int
    battles: int
    ties: int
    both_orders: int
    order_changed: int
    favoured_first: int
    favoured_second: int
    compared_with_people: int
    agreed_with_people: int
    calls: int
    input_tokens: int
    output_tokens: int
    unmetered_calls: int
    cut_off_responses: int
    spent_usd: float
    lost_usd: float
    unsettled_calls: int = 0
    unsettled_usd: float = 0.0

    @property
    def committed_usd(self) -> float:
        """The most US dollars that all calls can have cost, which is what a cap is compared with."""
        return self.spent_usd + self.lost_usd + self.unsettled_usd

    @property
    def position_bias(self) -> float | None:
        """Share of contests whose verdict the order changed; None where none was judged in both."""
        return self.order_changed / self.both_orders if self.both_orders else None

    @property
    def agreement_with_people(self) -> float | None:
        """Share of contests on which judge and people agree; None where people judged none."""
        return self.agreed_with_people / self.compared_with_people if self.compared_with_people else None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        shares = {"position_bias": self.position_bias, "agreement_with_people": self.agreement_with_people}
        return {**asdict(self), **shares}


@dataclass(slots=True)
class _Tally:
    judged: int = 0
    identical: int = 0
    unparsable: int = 0
    unfinished: int = 0
    both_orders: int = 0
    order_changed: int = 0
    favoured_first: int = 0
    favoured_second: int = 0
    compared_with_people: int = 0
    agreed_with_people: int = 0


def judged_battles(
    ledger: Ledger, *, rules: ScoreRules | None = None, on_disagreement: str = "tie"
) -> tuple[list[BattleRow], JudgeReport]:
    """Make battles of all judgements on record, in the order in which the contests were begun.

    Args:
        ledger: The sum of the journal.
        rules: How verdicts become battles; margin and weights apply to score mode only.
        on_disagreement: What becomes of a contest whose verdict changed with the order of the responses: "tie" makes it
            a tie, "drop" leaves it out. Applies to pairwise mode.

    Raises:
        InvalidArgumentError: A rule does not apply to the journal's mode.
    """
    rules = rules or ScoreRules()
    if on_disagreement not in DISAGREEMENTS:
        raise InvalidArgumentError(
            f"on_disagreement must be one of {', '.join(DISAGREEMENTS)}, found {on_disagreement!r}"
        )
    if ledger.mode is Mode.PAIRWISE and (rules.margin or rules.weights != "equal"):
        raise InvalidArgumentError(
            "a margin and weights by difference need scores, which a pairwise judge does not give"
        )
    judge, tally = str(ledger.settings["judge"]), _Tally()
    found: list[BattleRow] = []
    for contest in ledger.contests.values():
        verdicts = _verdicts(ledger, contest, tally)
        if verdicts is None:
            continue
        tally.judged += 1
        if ledger.mode is Mode.PAIRWISE:
            winner, is_consistent = _pairwise(verdicts, tally)
            _compare(contest, winner, tally)
            is_dropped = (winner == "tie" and rules.ties == "drop") or (
                is_consistent is False and on_disagreement == "drop"
            )
            decided, consistent = None if is_dropped else (winner, 1.0), is_consistent
        else:
            a, b = float(verdicts["a"]), float(verdicts["b"])
            _compare(contest, "tie" if a == b or abs(a - b) < rules.margin else _better(a, b), tally)
            decided, consistent = rules.decide(a, b, float(HIGHEST_SCORE - LOWEST_SCORE)), None
        if decided is not None:
            names = (contest.prompt, contest.group, contest.model_a, contest.model_b)
            found.append(BattleRow(*names, decided[0], contest.source, decided[1], judge, consistent))
    rows = rules.cap(found)
    return rows, _report(ledger, rows, tally)


def _verdicts(ledger: Ledger, contest: Recorded, tally: _Tally) -> Mapping[str, Verdict] | None:
    verdicts: dict[str, Verdict] = {}
    is_unparsable = False
    for label, key in contest.calls.items():
        judgement = ledger.judgements.get(key)
        if judgement is not None and judgement.verdict is not None:
            verdicts[label] = judgement.verdict
        is_unparsable = is_unparsable or (judgement is not None and judgement.verdict is None)
    if len(verdicts) < len(contest.calls):
        tally.unparsable += is_unparsable
        tally.unfinished += not is_unparsable
        return None
    tally.identical += not contest.calls
    return verdicts


def qualities(ledger: Ledger, calls: Mapping[str, str], mode: Mode) -> tuple[float, float] | None:
    """Return how good both responses of a contest are by the verdicts on record, each from 0 to 1.

    Args:
        ledger: The sum of the journal.
        calls: Key of each judgement by its label; see ledger.Recorded.
        mode: What the judge was asked. Where responses are compared the better one has 1 and the other 0; both have 0.5
            in a tie, where both are the same, and where the order of the responses changed the verdict. Scores of 1 to
            5 become 0 to 1.

    Returns:
        The qualities of the first and the second response; None while a verdict is missing.
    """
    verdicts = {
        label: judgement.verdict
        for label, key in calls.items()
        if (judgement := ledger.judgements.get(key)) is not None and judgement.verdict is not None
    }
    if len(verdicts) < len(calls):
        return None
    if mode is Mode.PAIRWISE:
        winners = set(_winners(verdicts).values())
        winner = winners.pop() if len(winners) == 1 else "tie"
        return {"model_a": (1.0, 0.0), "model_b": (0.0, 1.0), "tie": (0.5, 0.5)}[winner]
    span = float(HIGHEST_SCORE - LOWEST_SCORE)
    return (float(verdicts["a"]) - LOWEST_SCORE) / span, (float(verdicts["b"]) - LOWEST_SCORE) / span


def _winners(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Return who won, by the order in which the responses were shown."""
    shown = {"ab": ("model_a", "model_b"), "ba": ("model_b", "model_a")}
    return {
        label: "tie" if verdict == "tie" else shown[label][0 if verdict == "first" else 1]
        for label, verdict in verdicts.items()
    }


def _pairwise(verdicts: Mapping[str, Verdict], tally: _Tally) -> tuple[str, bool | None]:
    """Return the winner, and whether both orders agree on it; None where there are no two."""
    winners = _winners(verdicts)
    if len(winners) < 2:
        return next(iter(winners.values()), "tie"), None
    tally.both_orders += 1
    if winners["ab"] == winners["ba"]:
        return winners["ab"], True
    tally.order_changed += 1
    tally.favoured_first += verdicts["ab"] == verdicts["ba"] == "first"
    tally.favoured_second += verdicts["ab"] == verdicts["ba"] == "second"
    return "tie", False


def _compare(contest: Recorded, winner: str, tally: _Tally) -> None:
    if contest.winner is not None:
        tally.compared_with_people += 1
        tally.agreed_with_people += winner == contest.winner


def _better(a: float, b: float) -> str:
    return "model_a" if a > b else "model_b"


def _report(ledger: Ledger, rows: list[BattleRow], tally: _Tally) -> JudgeReport:
    return JudgeReport(
        judge=str(ledger.settings["judge"]),
        mode=ledger.mode.value,
        contests=len(ledger.contests),
        battles=len(rows),
        ties=sum(row.winner == "tie" for row in rows),
        calls=ledger.calls,
        input_tokens=ledger.input_tokens,
        output_tokens=ledger.output_tokens,
        unmetered_calls=ledger.unmetered,
        cut_off_responses=ledger.cut_off_responses,
        spent_usd=ledger.spent_usd,
        lost_usd=ledger.lost_usd,
        unsettled_calls=len(ledger.unsettled),
        unsettled_usd=ledger.unsettled_usd,
        **asdict(tally),
    )
