r"""Takes secrets out of prompts before a model or a judge sees them.

What is sent is a copy of the prompt in which each place that a rule finds is replaced, e.g. by `[email]`. The router
learns from the prompt as it is, which does not leave the machine. Rules find what has a form: an address, a number with
a check digit, a key that begins as such keys do. They know no names of people, and they do miss things: look at what
`Redaction.redacted` makes of some prompts before sending many.

A file of further rules is read line by line; blank lines and lines that begin with `#` are skipped. A line is a JSON
object `{"pattern": "…", "replacement": "…"}`, optionally with a `name`, where the file's name ends with `.jsonl`;
otherwise a regular expression of Python's `re`, a tab and the replacement, which is taken as it stands. How long such
an expression takes on a text is in the hands of who writes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.shown import shown
from routellm_fast.tables import parse_json_line

Spans = Iterable[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is taken out, and what is put in its place.

    Attributes:
        name: What the rule is called where places are counted.
        replacement: The text in the place of what was found.
        find: Returns the (begin, end) of each place in a text, in order and apart from one another.
    """

    name: str
    replacement: str
    find: Callable[[str], Spans]

    def applied(self, text: str) -> tuple[str, int]:
        """Return the text without what the rule finds, and in how many places it found something."""
        parts: list[str] = []
        done = count = 0
        for begin, end in self.find(text):
            parts += [text[done:begin], self.replacement]
            done, count = end, count + 1
        return ("".join([*parts, text[done:]]), count) if count else (text, 0)


@dataclass(frozen=True, slots=True)
class Redaction:
    """Rules that are applied to a text one after another.

    Attributes:
        rules: The rules, in the order in which they are applied.
    """

    rules: tuple[Rule, ...] = ()

    def redacted(self, text: str, counts: Counter[str] | None = None) -> str:
        """Return what may be sent of a text.

        Args:
            text: The text.
            counts: Is added the number of places found, by the name of the rule.
        """
        for rule in self.rules:
            text, count = rule.applied(text)
            if counts is not None and count:
                counts[rule.name] += count
        return text


def redaction_of(wanted: Sequence[str]) -> Redaction:
    """Return the rules that these words name.

    Args:
        wanted: Each the name of a built-in rule, `all` for every one of them, or the path of a file of rules; the text
            of this module describes these. Built-in rules are applied first, then those of the files.

    Raises:
        InvalidArgumentError: A word is neither.
        DataError: A file cannot be read, or a line of it is no rule; the text names the line.
    """
    names: set[str] = set()
    files: list[Path] = []
    for word in wanted:
        if word == "all":
            names.update(BUILT_IN)
        elif word in BUILT_IN:
            names.add(word)
        elif Path(word).exists():
            files.append(Path(word))
        else:
            raise InvalidArgumentError(
                f"{word!r} is no rule of redaction and no file: expected all, {', '.join(BUILT_IN)}, or a file of "
                "rules with a regular expression, a tab and a replacement on each line"
            )
    built_in = [rule for name, rule in BUILT_IN.items() if name in names]
    return Redaction((*built_in, *(rule for file in files for rule in read_rules(file))))


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read rules from a file; the text of this module describes it. Raises DataError, which names the line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text in UTF-8 ({error})") from error
    parse = _json_rule if path.suffix.lower() == ".jsonl" else _tab_rule
    rules: list[Rule] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, pattern, replacement = parse(line.rstrip("\r"))
            rules.append(_own_rule(name or f"{path.name}, line {number}", pattern, replacement))
        except (ValueError, OverflowError, RecursionError, re.error) as error:
            raise DataError(f"{path}, line {number}: no rule of redaction: {error}") from error
    if not rules:
        raise DataError(
            f"{path} holds no rule of redaction: write a regular expression, a tab and a replacement a line"
        )
    return tuple(rules)


def _tab_rule(line: str) -> tuple[str, str, str]:
    pattern, tab, replacement = line.partition("\t")
    if not tab:
        raise ValueError(f"expected a regular expression, a tab and a replacement, found no tab in {shown(line)!r}")
    return "", pattern, replacement


def _json_rule(line: str) -> tuple[str, str, str]:
    found: Any = parse_json_line(line)
    if not isinstance(found, dict) or not {"pattern", "replacement"} <= set(found) <= {
        "name",
        "pattern",
        "replacement",
    }:
        raise ValueError(f"expected an object with pattern, replacement and optionally name, found {shown(line)}")
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError("pattern, replacement and name are texts")
    return str(found.get("name", "")), str(found["pattern"]), str(found["replacement"])


def _own_rule(name: str, pattern: str, replacement: str) -> Rule:
    compiled = re.compile(pattern)
    if compiled.search("") is not None:
        raise ValueError(f"{shown(pattern)!r} is found in an empty text, so it would be found everywhere")
    # A pattern such as \b or (?=x) may still find places without width; there is nothing to replace in them.
    return Rule(name, replacement, lambda text: (match.span() for match in compiled.finditer(text) if match[0]))


# --- built-in rules: each takes time in proportion to the text, whatever the text


def _pattern(pattern: str, flags: int = 0) -> Callable[[str], Spans]:
    """Return a finder of a pattern, or of its group "value" alone where it has one."""
    compiled = re.compile(pattern, flags)
    group = "value" if "value" in compiled.groupindex else 0
    return lambda text: (match.span(group) for match in compiled.finditer(text))


# Twice each digit, and the sum of the digits of that.
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")


def passes_luhn(digits: str) -> bool:
    """Tell whether the last of these ASCII digits is the check digit of the others, as on payment cards."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, doubled + digits[-1::-2])) % 10 == 0


def passes_mod_97(iban: str) -> bool:
    """Tell whether the check digits of an account number fit: ASCII letters and digits without spaces."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


_DIGIT_RUN: Final = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,}(?![0-9])")
_FEWEST_DIGITS: Final = 13
_MOST_DIGITS: Final = 19


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Find 13 to 19 digits with a check digit, alone or in groups, also beside other groups of digits."""
    for run in _DIGIT_RUN.finditer(text):
        groups = [(run.start() + group.start(), group[0]) for group in re.finditer("[0-9]+", run[0])]
        first = 0
        while first < len(groups):
            last = _card_end(groups, first)
            if last is None:
                first += 1
                continue
            yield groups[first][0], groups[last][0] + len(groups[last][1])
            first = last + 1


def _card_end(groups: Sequence[tuple[int, str]], first: int) -> int | None:
    """Return the last group of the longest card number that begins with a group; None where none does."""
    digits, found = "", None
    for last in range(first, len(groups)):
        group = groups[last][1]
        if len(digits) + len(group) > _MOST_DIGITS:
            break
        digits += group
        if len(digits) >= _FEWEST_DIGITS and passes_luhn(digits):
            found = last
    return found


_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,30}")
_SHORTEST_IBAN: Final = 15


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Find account numbers with check digits, in groups or not, also where words follow."""
    position = 0
    while (match := _IBAN.search(text, position)) is not None:
        position = match.start() + 1
        for end in range(match.end(), match.start() + _SHORTEST_IBAN - 1, -1):
            is_bound = text[end - 1] != " " and (end == len(text) or not text[end].isalnum())
            number = text[match.start() : end].replace(" ", "")
            if is_bound and len(number) >= _SHORTEST_IBAN and passes_mod_97(number):
                yield match.start(), end
                position = end
                break


_WORD: Final = r"[A-Za-z0-9_\-]"
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
# Keys of services by how they begin, tokens with a signature, private keys, and what follows "password:" and the like.
_KEYS: Final = "|".join(
    (
        r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,32}PRIVATE KEY-----|\Z)",
        rf"(?<![A-Za-z0-9_])(?:sk|pk|rk)[-_](?=[A-Za-z_\-]{{0,64}}[0-9]){_WORD}{{16,512}}",
        r"(?<![A-Za-z0-9_])gh[pousr]_[A-Za-z0-9]{20,512}",
        r"(?<![A-Za-z0-9_])github_pat_[A-Za-z0-9_]{20,512}",
        rf"(?<![A-Za-z0-9_])glpat-{_WORD}{{16,512}}",
        r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{20,512}",
        r"(?<![A-Za-z0-9_])xox[a-z]-[A-Za-z0-9\-]{10,512}",
        r"(?<![A-Za-z0-9_])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        rf"(?<![A-Za-z0-9_])AIza{_WORD}{{30,64}}",
        rf"(?<![A-Za-z0-9_\-])eyJ{_WORD}{{8,4096}}\.{_WORD}{{8,8192}}\.{_WORD}{{0,1024}}",
    )
)
_AFTER_ITS_NAME: Final = (
    r"(?i:(?<![a-z])(?:pass(?:word|wd|phrase)?|pwd|secret(?:[_\- ]?key)?|api[_\- ]?key|access[_\- ]?(?:key|token)|"
    r"auth[_\- ]?token)[\"']?\s{0,3}[:=]\s{0,3}[\"']?|authorization:\s{0,3}(?:bearer|basic)\s{1,3}"
    r"|\bbearer\s{1,3}(?=[^\s\"',;]{0,64}[0-9]))"
    r"(?P<value>(?!\[[a-z0-9]{1,8}\])[^\s\"',;]{6,4096})"
)


def _keys(text: str) -> Iterator[tuple[int, int]]:
    """Find keys by their own form, and values by the word before them; places that overlap are one."""
    begin = end = 0
    for next_begin, next_end in sorted([*_pattern(_KEYS)(text), *_pattern(_AFTER_ITS_NAME)(text)]):
        if next_begin >= end:
            if end:
                yield begin, end
            begin = next_begin
        end = max(end, next_end)
    if end:
        yield begin, end


_RULES: Final = (
    Rule("key", "[key]", _keys),
    Rule(
        "email",
        "[email]",
        _pattern(r"(?<![\w.+%\-])[\w.+%\-]{1,64}@(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)"),
    ),
    Rule("iban", "[iban]", _ibans),
    Rule("card", "[card]", _cards),
    Rule("ipv4", "[ipv4]", _pattern(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.[0-9])")),
    Rule(
        "phone",
        "[phone]",
        _pattern(
            # With the country's code; as in North America; with the 0 before the area's code.
            r"(?<![\w+])(?:(?:\+|00)[1-9](?:[ ().\-/]{0,2}[0-9]){7,14}"
            r"|(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .\-])[2-9][0-9]{2}[ .\-][0-9]{4}"
            r"|\(?0[1-9][0-9]{1,4}\)?[ \-/]{1,3}[0-9](?:[ \-/]?[0-9]){4,9})(?!\w)"
        ),
    ),
)
BUILT_IN: Final[Mapping[str, Rule]] = MappingProxyType({rule.name: rule for rule in _RULES})
