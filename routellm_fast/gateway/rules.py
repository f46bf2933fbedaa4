"""Rules before the router: the first whose conditions hold decides."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from routellm_fast.gateway.exchange import Asked
from routellm_fast.gateway.languages import known_languages, language_of
from routellm_fast.gateway.patterns import Pattern, regex, wildcard
from routellm_fast.gateway.settings import RuleSettings

# How much of a text a regular expression reads.
_MOST_CHARS: Final = 10_000


class _Rule(NamedTuple):
    settings: RuleSettings
    model: Pattern | None
    headers: tuple[tuple[str, Pattern], ...]
    regex: Pattern | None

    def holds(self, asked: Asked, language: Callable[[], str]) -> bool:
        """Whether all conditions hold; the slow ones are looked at last."""
        when, traits = self.settings.when, asked.traits
        return (
            when.client in (None, asked.client)
            and when.tools in (None, traits.has_tools)
            and when.image in (None, traits.has_image)
            and when.audio in (None, traits.has_audio)
            and (when.min_turns is None or traits.turns >= when.min_turns)
            and (when.min_chars is None or len(asked.text) >= when.min_chars)
            and (when.max_chars is None or len(asked.text) <= when.max_chars)
            and (self.model is None or self.model.holds(asked.model))
            and all(name in asked.headers and pattern.holds(asked.headers[name]) for name, pattern in self.headers)
            and (self.regex is None or self.regex.holds(asked.text[:_MOST_CHARS]))
            and (not when.language or language() in when.language)
        )


class Rules:
    """The rules in their order. Immutable and thread-safe."""

    def __init__(self, settings: Sequence[RuleSettings]) -> None:
        """Compile the patterns, and load what tells languages apart where a rule asks for one."""
        self._rules = tuple(_compiled(rule) for rule in settings)
        if any(rule.when.language for rule in settings):
            known_languages()  # so that no request waits for the model

    def first(self, asked: Asked) -> RuleSettings | None:
        """Return the first rule all of whose conditions hold; None where none does.

        A text whose language is not clear (see languages.language_of) is in none: a rule with `language` does not hold.
        """
        if not self._rules:
            return None
        # Found only where a rule comes to ask for it, and once for all rules.
        language = functools.cache(functools.partial(language_of, asked.text))
        for rule in self._rules:
            if rule.holds(asked, language):
                return rule.settings
        return None


def _compiled(rule: RuleSettings) -> _Rule:
    when = rule.when
    return _Rule(
        rule,
        None if when.model is None else wildcard(when.model),
        tuple((name.lower(), wildcard(value)) for name, value in when.header.items()),
        None if when.regex is None else regex(when.regex),
    )
