"""The sum of a journal's records: contests, verdicts, generated responses and costs.

Each record is a JSON object with a `record`:

* `settings`: first, once;
* `judge`: in a journal that began with answers alone, from here on this judge is asked; contests before it were another
  judge's and count no more;
* `contest`: before its first call;
* `reservation`: before each attempt at a call, with a number of its own and the most that the attempt can cost;
* one for each attempt that ended, which settles its reservation: `judgement` (an answer of the judge, read or not),
  `response` (a generated one), `loss` (it may have been paid for and was never answered), `release` (it cost nothing);
* `failure`: a call given up;
* `format`: from here on the lines have a later format than the first line says.

The settings say what is asked. Those of a judge hold for the whole journal. A journal whose `mode` is "answers" asks
models alone; whoever judges these answers later, and one judge after another, goes on in the same journal.

A reservation that nothing settles is that of an attempt that is under way, or was when its process was killed: it may
have been paid for, so it counts as spent. Format 1 has no reservations, and losses only where the process lived on.
Format 2 has no `judge` and no mode "answers".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from routellm_fast.augmentation.completion import Completion
from routellm_fast.augmentation.verdict import Mode, Verdict, is_verdict
from routellm_fast.errors import DataError

FORMAT_VERSION: Final = 3
FIRST_FORMAT_VERSION: Final = 1
# The mode of a journal that asks no judge.
ANSWERS: Final = "answers"
ANSWERS_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType({"mode": ANSWERS})
_LABELS: Final = {Mode.PAIRWISE: {"ab", "ba"}, Mode.SCORE: {"a", "b"}}


@dataclass(slots=True)
class Judgement:
    """A judge's answers to one question.

    Attributes:
        verdict: The verdict; None while no answer could be read.
        attempts: Number of answers.
        is_cut_off: Whether the last answer ended at the token limit.
    """

    verdict: Verdict | None = None
    attempts: int = 0
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A generated response.

    Attributes:
        text: The text.
        input_tokens: Tokens of the prompt, as the server counted; the most there can be where it did not tell.
        output_tokens: Tokens of the text, likewise.
        cost_usd: US dollars that the call cost; 0 where the run had no prices.
    """

    text: str
    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """A contest as the journal holds it.

    Attributes:
        prompt: Text of the prompt.
        group: Name of the prompt group; a group is held out as a whole.
        source: Name of the data set.
        model_a: Name of the first model.
        model_b: Name of the second model.
        winner: Whom people chose: "model_a", "model_b" or "tie"; None where nobody was asked.
        calls: Key of each judgement by its label. In pairwise mode "ab" and "ba" name the order in which the responses
            are shown; in score mode "a" and "b" name the response. Empty where both responses are the same.
    """

    prompt: str
    group: str
    source: str
    model_a: str
    model_b: str
    winner: str | None
    calls: Mapping[str, str]


@dataclass(slots=True)
class Ledger:
    """The sum of a journal.

    Attributes:
        settings: The first record, without its kind; after a `judge` record, the settings of that judge.
        began_with_answers: Whether the journal began without a judge, so that any judge may follow.
        contests: All contests of the present judge, by id.
        judgements: All judgements, by key.
        responses: All generated responses, by key.
        failures: Why calls were given up, by key; a call that succeeded later is not among them.
        calls: Number of answered calls.
        input_tokens: Tokens sent in answered calls.
        output_tokens: Tokens received in answered calls.
        unmetered: Number of calls whose server did not tell tokens; for them the most there could be is counted.
        cut_off_responses: Number of generated responses that ended at the token limit.
        spent_usd: US dollars that answered calls cost.
        lost_usd: The most US dollars that unanswered attempts may have cost.
        unsettled: The most US dollars that each attempt can cost of which the journal does not say how it ended, by the
            number of its reservation.
        last_reservation: The highest number of a reservation; 0 where there is none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    began_with_answers: bool = False
    contests: dict[str, Recorded] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    responses: dict[str, Response] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0
    cut_off_responses: int = 0
    spent_usd: float = 0.0
    lost_usd: float = 0.0
    unsettled: dict[int, float] = field(default_factory=dict)
    last_reservation: int = 0

    @property
    def unsettled_usd(self) -> float:
        """The most US dollars that all unsettled attempts can cost."""
        return math.fsum(self.unsettled.values())

    @property
    def committed_usd(self) -> float:
        """The most US dollars that all calls can have cost: what is spent, lost and unsettled."""
        return math.fsum((self.spent_usd, self.lost_usd, *self.unsettled.values()))

    @property
    def has_judge(self) -> bool:
        """Whether a judge is asked."""
        return bool(self.settings) and self.settings["mode"] != ANSWERS

    @property
    def mode(self) -> Mode:
        """The question that the judge was asked. Raises DataError where no judge was asked."""
        if not self.has_judge:
            raise DataError(
                "the journal holds answers of models, and no judge was asked about them yet: a judging run with this "
                "journal asks one"
            )
        return Mode(self.settings["mode"])

    def apply(self, record: Mapping[str, Any]) -> None:
        """Add a record. Raises ValueError, KeyError or TypeError where the record breaks the layout."""
        kind = record["record"]
        if (kind == "settings") == bool(self.settings):
            raise ValueError("settings are the first record, and only that")
        if kind == "settings":
            self._apply_settings(record)
        elif kind == "judge":
            self._apply_judge(record)
        elif kind in ("contest", "judgement") and not self.has_judge:
            raise ValueError(f"a {kind}, and no judge is asked")
        elif kind == "contest":
            self.contests[record["id"]] = self._contest(record)
        elif kind == "judgement":
            verdict = record["verdict"]
            if verdict is not None and not is_verdict(verdict, self.mode):
                raise ValueError(f"{verdict!r} is no verdict of mode {self.mode.value}")
            self._book(record)
            judgement = self.judgements.setdefault(record["key"], Judgement())
            judgement.attempts += 1
            judgement.is_cut_off = bool(record["is_cut_off"])
            judgement.verdict = verdict if judgement.verdict is None else judgement.verdict
        elif kind == "response":
            self._book(record)
            self.responses[record["key"]] = Response(
                str(record["text"]),
                int(record["input_tokens"]),
                int(record["output_tokens"]),
                float(record["cost_usd"]),
            )
            self.cut_off_responses += bool(record["is_cut_off"])
        elif kind == "reservation":
            self._reserve(record)
        elif kind == "loss":
            self.lost_usd += _amount(record["usd"])
            self._settle(record)
        elif kind == "release":
            self._settle(record)
        elif kind == "format":
            self._raise_format(record)
        elif kind == "failure":
            self.failures[record["key"]] = str(record["reason"])
        else:
            raise ValueError(f"unknown record {kind!r}")

    def _apply_settings(self, record: Mapping[str, Any]) -> None:
        _check_version(record["format_version"], FIRST_FORMAT_VERSION)
        self.began_with_answers = record["mode"] == ANSWERS
        if not self.began_with_answers:
            Mode(record["mode"])
        self.settings = {key: value for key, value in record.items() if key != "record"}

    def _apply_judge(self, record: Mapping[str, Any]) -> None:
        if not self.began_with_answers:
            raise ValueError("the journal is another judge's")
        Mode(record["mode"])
        if not isinstance(record["judge"], str):
            raise TypeError("a judge has a name")
        settings = {key: value for key, value in record.items() if key != "record"}
        self.settings = {**settings, "format_version": self.settings["format_version"]}
        self.contests.clear()

    def _raise_format(self, record: Mapping[str, Any]) -> None:
        _check_version(record["format_version"], self.settings["format_version"] + 1)
        self.settings["format_version"] = record["format_version"]

    def _contest(self, record: Mapping[str, Any]) -> Recorded:
        names = {name: record[name] for name in ("prompt", "group", "source", "model_a", "model_b")}
        calls, winner = dict(record["calls"]), record["winner"]
        labels = _LABELS[self.mode]
        if not all(isinstance(text, str) for text in (*names.values(), *calls.values())) or not labels >= set(calls):
            raise TypeError(f"a contest has names and calls {', '.join(sorted(labels))}")
        if self.mode is Mode.SCORE and len(calls) < len(labels):
            raise ValueError("both responses of a contest have a score")
        return Recorded(**names, winner=winner, calls=calls)

    def _book(self, record: Mapping[str, Any]) -> None:
        self.calls += 1
        self.input_tokens += int(_amount(record["input_tokens"]))
        self.output_tokens += int(_amount(record["output_tokens"]))
        self.unmetered += not record["is_metered"]
        self.spent_usd += _amount(record["cost_usd"])
        self.failures.pop(record["key"], None)
        self._settle(record)

    def _reserve(self, record: Mapping[str, Any]) -> None:
        number = record["number"]
        if type(number) is not int or number <= self.last_reservation:
            raise ValueError(f"reservation {number!r} does not follow number {self.last_reservation}")
        self.unsettled[number] = _amount(record["usd"])
        self.last_reservation = number

    def _settle(self, record: Mapping[str, Any]) -> None:
        # A reservation may be missing: somebody cut out its line, or the record is of format 1.
        self.unsettled.pop(record.get("reservation", 0), None)


def _check_version(version: Any, lowest: int) -> None:
    if type(version) is not int or not lowest <= version <= FORMAT_VERSION:
        raise ValueError(f"{version!r} is no format version from {lowest} to {FORMAT_VERSION}")


def _amount(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no amount")
    amount = float(value)
    if not 0.0 <= amount < math.inf:
        raise ValueError(f"{value!r} is no amount")
    return amount


def call_record(kind: str, key: str, model: str, completion: Completion, time_s: float) -> dict[str, Any]:
    """Return the record of an answered call, but for its verdict."""
    return {
        "record": kind,
        "key": key,
        "model": model,
        "text": completion.text,
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
        "is_metered": completion.is_metered,
        "is_cut_off": completion.is_cut_off,
        "cost_usd": completion.cost_usd,
        "requests": completion.attempts,
        "latency_s": round(completion.latency_s, 4),
        "time_s": round(time_s, 3),
    }
