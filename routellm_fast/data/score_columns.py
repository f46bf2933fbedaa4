"""Which columns of a table of golden labels hold scores of a model, and which say something else.

Tables bring columns that no model answers for: the index that pandas writes, ids, numbers of tokens, dates, times,
costs. They are known by their names. Columns of other names count as models; where their numbers cannot be scores of
one scale, or only count the rows, the table is refused, since nothing says which column is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_fast.data.prompts import SOURCE_COLUMNS
from routellm_fast.errors import DataError

# Columns that have a meaning of their own in a table of golden labels.
_MEANT: Final = frozenset(
    {
        *("prompt", "prompt_id", "prompt_group", "messages", "question", "options_json", "answer", "license", "judge"),
        *("weight", "sample_id", "question_id", "category", "domain", "src"),
        *SOURCE_COLUMNS,
    }
)
# Ending of the columns that hold what an answer of a model cost, as RouterBench names them.
COST_SUFFIX: Final = "|total_cost"
# What other programs, and commands of this package, write beside scores. Names are compared in small letters, with an
# underscore in place of anything but letters and digits.
_INDEX: Final = r"unnamed(_\d+)*|(level|index_level)_\d+|index|idx|row|row_(number|nr|no|index)|nr|no|number|position"
_ID: Final = r"(.+_)?(id|ids|uid|uuid|guid|hash|digest|sha256|md5|url)"
_LENGTH: Final = (
    r"(.+_)?(tokens?|words?|chars?|characters|length|len|size|bytes)|(tokens?|words?|chars?)_(count|in|out)"
)
_TIME: Final = (
    r"(.+_)?(date|time|datetime|timestamp|tstamp|day|month|year|hour|created|updated|latency|duration|elapsed|runtime)"
    r"(_at|_on|_m?s|_secs?|_seconds|_milliseconds|_utc)?"
)
_COST: Final = r"(.+_)?(costs?|prices?|usd|dollars)(_usd|_per_.+)?"
_TEXT: Final = (
    r"(.+_)?(response|answer|output|completion|text|reason|explanation|rationale|feedback|judg[e]?ment|verdict)s?"
    r"|response_.+|reference|comments?|notes?|tags?|topic|subject|title|name|system|system_prompt|instruction|context"
    r"|conversation(_.+)?|turns?|n_turns|num_turns"
)
_ABOUT: Final = (
    r"split|fold|subset|dataset|lang|language|country|user|session|seed|temperature|top_p|top_k|difficulty|level|type"
    r"|winner(_.+)?|model|model_[ab]|position_consistent|win_rate|threshold|is_strong|microseconds|batch_size|basis|tau"
)
_KNOWN: Final = re.compile("|".join(f"(?:{part})" for part in (_INDEX, _ID, _LENGTH, _TIME, _COST, _TEXT, _ABOUT)))
# Scores of one scale: the largest of one model is at most so many times that of another.
_MOST_APART: Final = 20.0
# Fewer values than this say nothing about a column whose numbers are all small, or rise by one.
_FEW_VALUES: Final = 8
ADVICE: Final = "Take columns that are no models out of the table, or name the models (--models, in Python models=)"


def is_meant(column: str) -> bool:
    """Say whether a column has a documented meaning in golden labels other than a model's score."""
    return column in _MEANT


def is_known(column: str) -> bool:
    """Say whether a column's name is one that other programs, or this package, give to what is no score of a model."""
    name = re.sub(r"[^a-z0-9]+", "_", column.strip().lower()).strip("_")
    return not name or _KNOWN.fullmatch(name) is not None


@dataclass(slots=True)
class _Column:
    count: int = 0
    zeros: int = 0
    highest: float = 0.0  # of absolute values
    first: float = 0.0
    counts_rows: bool = True

    def add(self, score: float) -> None:
        if not self.count:
            self.first = score
        self.counts_rows = self.counts_rows and score == self.first + self.count
        self.count += 1
        self.zeros += score == 0.0
        self.highest = max(self.highest, abs(score))

    @property
    def says_its_scale(self) -> bool:
        """Whether the numbers are large, or many small ones and none of them zero: zeros are scores of any scale."""
        return self.highest >= 1.0 or (self.count >= _FEW_VALUES and not self.zeros)


@dataclass(slots=True)
class ScoreColumns:
    """The numbers in the columns that count as models, by data set within the table."""

    _by_source: dict[str, dict[str, _Column]] = field(default_factory=dict)

    def add(self, source: str, scores: Mapping[str, float]) -> None:
        """Take the scores of a row, by model."""
        columns = self._by_source.setdefault(source, {})
        for model, score in scores.items():
            columns.setdefault(model, _Column()).add(score)

    def check(self, path: Path) -> None:
        """Raise DataError where the numbers of two columns are not of one scale, or those of one count the rows."""
        for columns in self._by_source.values():
            for model, column in columns.items():
                if column.counts_rows and column.count >= _FEW_VALUES:
                    raise DataError(
                        f"{path}: {model!r} counts the rows, from {column.first:g} to {column.highest:g}, which is no "
                        f"score. {ADVICE}"
                    )
            scales = {model: column.highest for model, column in columns.items() if column.says_its_scale}
            if not scales:
                continue
            low, high = min(scales, key=scales.__getitem__), max(scales, key=scales.__getitem__)
            if scales[high] > _MOST_APART * scales[low]:
                raise DataError(
                    f"{path}: {high!r} reaches {scales[high]:g} and {low!r} only {scales[low]:g}, so one of them is no "
                    f"model, or is scored on another scale. {ADVICE}"
                )
