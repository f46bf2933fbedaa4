"""The model card of an adapted router: what was found, how it came about, and what it does not say."""

from __future__ import annotations

from collections.abc import Iterator

from routellm_fast.adaptation.learning import Learning
from routellm_fast.adaptation.proving import ADAPTED, Proof
from routellm_fast.adaptation.saving import Monthly
from routellm_fast.adaptation.sentences import headline, number_of, reasons
from routellm_fast.adaptation.verdict import verdict_on
from routellm_fast.shown import in_markdown

_LIMITS = (
    "It was learned from, and proved on, the traffic of the labels: on other traffic it may be no better than chance. "
    "When requests change, check it (`routellm-fast calibrate --check`), and add labels (`routellm-fast adapt "
    "--update`)."
)


def adapted_card(proof: Proof, learning: Learning, *, created: str, monthly: Monthly | None) -> str:
    """Return a model card, Markdown. It holds no prompt."""
    verdict = verdict_on(proof)
    title = f"# Adapted router: {in_markdown(proof.strong_model)} against {in_markdown(proof.weak_model)}"
    made = f"Made by `routellm-fast adapt`{f' on {in_markdown(created)}' if created else ''}."
    points = "\n".join(
        f"* {in_markdown(label)}: {in_markdown(text)}" for label, text in reasons(proof, verdict, monthly)
    )
    sections = [
        title,
        f"**{in_markdown(headline(proof, verdict))}**",
        made,
        "## Proof",
        points,
        "## Learning",
        "\n".join(_learned(proof, learning)),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def _learned(proof: Proof, learning: Learning) -> Iterator[str]:
    yield (
        f"{proof.labels:,} labels; {proof.prompts:,} of them were kept apart for the proof. Recipes, judged on labels "
        "that they did not learn from:"
    )
    yield ""
    yield "| recipe | gain over random routing, at all strong shares | taken |"
    yield "|---|---|---|"
    for candidate in learning.candidates:
        if candidate.gain is None:
            yield f"| {in_markdown(candidate.name)} | failed: {in_markdown(candidate.failure)} | |"
            continue
        taken = "yes" if candidate is learning.chosen else ""
        yield f"| {in_markdown(candidate.name)} | {number_of(candidate.gain, sign=True)} | {taken} |"
    apgr = proof.apgr(ADAPTED)
    if apgr is not None:
        yield ""
        yield f"APGR on the labels kept apart: {number_of(apgr)}."
