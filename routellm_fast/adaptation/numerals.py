r"""The last number of an answer, as people and language models write numbers.

* `1,234.5`, `1'234`, `1_234`, `1.234.567` and `1 234` with a space that does not break lines are in groups of three;
  any other comma before digits is a decimal one: `3,5`. A single point is always a decimal one.
* `3/4`, `1 1/2`, `\frac{3}{4}`, `2e-3`, `3 x 10^8` and `3 * 10⁸` are one number each.
* `12 %` is 12 percent, which is 0.12 as well.
* A sign of a currency before a number and a unit behind it are no part of it; digits within a name (`H2O`, `x_1`) or an
  exponent of a unit (`cm^2`) are no numbers.
* Where there is a `\boxed{…}`, or else a `####`, as in answers to mathematics, the number is the last one in it or
  behind it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

# Beyond what float64 can hold.
_MOST_CHARS: Final = 400
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_LATEX: Final = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,!;: ]"), ""),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (
        re.compile(r"\\[dt]?frac\s{0,3}\{\s{0,3}([0-9.]{1,40})\s{0,3}\}\s{0,3}\{\s{0,3}([0-9.]{1,40})\s{0,3}\}"),
        r"\1/\2",
    ),
)
_POWER: Final = re.compile(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]{1,5})")
_BOXED: Final = re.compile(r"\\boxed\s{0,3}\{")
# Between groups of digits: spaces that do not break lines, thin ones, and the curled apostrophe.
_THIN: Final = "\u00a0\u2009\u202f\u2019"
_DIGITS: Final = (
    rf"(?:[0-9]{{1,3}}(?:[,'_{_THIN}][0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?"  # 1,234,567.8
    r"|[0-9]{1,3}(?:\.[0-9]{3}){2,}(?![0-9])"  # 1.234.567
    r"|[0-9]+(?:[.,][0-9]+)?|\.[0-9]+)"
)
# As on keyboards, the mathematical sign, and the dash that word processors make of it.
_MINUS: Final = "\u2212"
_SIGN: Final = f"[-{_MINUS}\u2013]"
_NUMBER: Final = re.compile(
    rf"(?:(?<![\w)\]}}])(?P<sign>{_SIGN}))?(?:[$€£¥₹] ?)?(?<![A-Za-z0-9_^])(?<![0-9]\.)(?<![\^_]\{{)"
    rf"(?:(?P<whole>[0-9]{{1,3}}) (?=[0-9]{{1,6}}/[1-9]))?"
    rf"(?P<digits>{_DIGITS})"
    rf"(?: ?/ ?(?P<below>[0-9]+(?:\.[0-9]+)?)(?![0-9]|/[0-9]))?"
    rf"(?:[eE](?P<exponent>[+\-{_MINUS}]?[0-9]{{1,4}})(?![0-9A-Za-z])"
    rf"| ?[\u00d7x*·] ?10(?:\^|\*\*)\{{?(?P<power>[+\-{_MINUS}]?[0-9]{{1,4}})\}}?)?"
    r"(?P<percent> ?(?:%|percent\b|per cent\b))?"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written.

    Attributes:
        value: The number in front of a percent sign, or the number.
        is_percent: Whether there was a percent sign.
    """

    value: float
    is_percent: bool

    def equals(self, other: Number, *, absolute: float = 0.0, relative: float = 0.0) -> bool:
        """Tell whether two numbers are the same.

        Args:
            other: The number to compare with.
            absolute: The most by which they may differ.
            relative: The most by which they may differ, as a share of the other number.
        """
        if self.is_percent == other.is_percent:
            pairs = [(self.value, other.value)]
        else:
            # One was written as a percentage; the other may mean the share or the number in front of the sign.
            shares = [number.value / 100.0 if number.is_percent else number.value for number in (self, other)]
            pairs = [(self.value, other.value), (shares[0], shares[1])]
        return any(math.isclose(a, b, rel_tol=1e-9, abs_tol=max(absolute, relative * abs(b))) for a, b in pairs)


def last_number(text: str) -> Number | None:
    """Return the last number of a text; None where there is none. The text of this module says what a number is."""
    place = boxed(text)
    if place is None and "####" in text:
        place = text.rpartition("####")[2]
    found = None if place is None else _last_in(place)
    return _last_in(text) if found is None else found


def boxed(text: str) -> str | None:
    r"""Return what stands in the last `\boxed{…}` of a text; None where there is none."""
    ends = [match.end() for match in _BOXED.finditer(text)]
    if not ends:
        return None
    depth = 1
    for place in range(ends[-1], len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return text[ends[-1] : place]
    return text[ends[-1] :]


def _last_in(text: str) -> Number | None:
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = _POWER.sub(lambda match: f"10^{match[1].translate(_SUPERSCRIPTS)}", text)
    found = None
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            found = Number(value, match["percent"] is not None)
    return found


def _value(match: re.Match[str]) -> float | None:
    digits, below = _plain(match["digits"]), match["below"]
    if max(len(digits), len(below or "")) > _MOST_CHARS:
        return None
    exponent = (match["exponent"] or match["power"] or "0").replace(_MINUS, "-")
    value = float(f"{digits}e{exponent}")
    if below is not None:
        if not float(below):
            return None
        value /= float(below)
    value += float(match["whole"] or 0)
    if not math.isfinite(value):
        return None
    return -value if match["sign"] else value


def _plain(digits: str) -> str:
    """Return digits as float reads them."""
    grouped = re.fullmatch(rf"([0-9]{{1,3}}(?:[,'_{_THIN}][0-9]{{3}})+)(\.[0-9]+)?", digits)
    if grouped:
        return re.sub("[^0-9]", "", grouped[1]) + (grouped[2] or "")
    return digits.replace(".", "") if digits.count(".") > 1 else digits.replace(",", ".")
