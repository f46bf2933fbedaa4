"""The model card of a router that was trained from files: what is in its metrics, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routellm_fast.decision import ModelPair
from routellm_fast.shown import in_code, in_markdown

_USE: Final = (
    "To send each prompt to one of the two models. Choose the threshold by the share of prompts that the strong model "
    "may have; calibrate on prompts like those you expect (`routellm-fast calibrate`) and measure on a benchmark that "
    "was not trained on (`routellm-fast evaluate`)."
)


def model_card(
    kind: str,
    metrics: Mapping[str, Any],
    *,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    embedder: str = "",
    base: str = "",
    created: str,
) -> str:
    """Return a model card, Markdown.

    Args:
        kind: The kind of router, such as "mf".
        metrics: As the commands of `training.command` return them.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate the router computes; None is model_pair.
        embedder: The name of the embedder.
        base: In place of an embedder, the pretrained model that was fine-tuned and reads prompts itself.
        created: Date; "" for none.
    """
    scoring = scoring_pair or model_pair
    reads = (
        f"Prompts are read by {in_code(base)}, fine-tuned." if base else f"Prompts are embedded by {in_code(embedder)}."
    )
    what = (
        f"Says how likely {in_code(scoring.strong)} (strong) is to answer a prompt better than "
        f"{in_code(scoring.weak)} (weak). {reads} Made by `routellm-fast train {kind}`"
    )
    sections = [
        f"# {kind} router: {in_markdown(model_pair.strong)} against {in_markdown(model_pair.weak)}",
        f"{what} on {in_markdown(created)}." if created else f"{what}.",
        "## Data",
        _data(metrics),
        "## Results on prompts held out",
        _results(metrics),
        "## Settings",
        _settings(metrics),
        "## Use",
        _USE,
        "## Limits",
        _limits(metrics),
    ]
    return "\n\n".join(sections) + "\n"


def _data(metrics: Mapping[str, Any]) -> str:
    battles = metrics["battles"]
    total = f"{battles['train']:,} + {battles['held_out']:,} held out" if isinstance(battles, dict) else f"{battles:,}"
    lines = [
        f"Battles: {total}, on {metrics['prompts']:,} distinct prompts, between {metrics['models']:,} models.",
        "",
        "| source | rows | battles | left out | stated licences | judges |",
        "|---|---|---|---|---|---|",
    ]
    for name, counts in metrics["data"].items():
        row = [
            f"{counts['rows']:,}",
            f"{counts['battles']:,}",
            *(_tally(counts[column]) for column in ("left_out", "licenses", "judges")),
        ]
        lines.append(f"| {in_markdown(name)} | {' | '.join(row)} |")
    if metrics["licenses"] is not None:
        licenses = ", ".join(map(in_markdown, metrics["licenses"]))
        lines += ["", f"Of the sources of battles, rows of these licences only: {licenses}."]
    if "evaluation" in metrics:
        of = metrics["evaluation"]
        left_out = (
            f"{of['battles_left_out']:,} battles were left out whose prompts, or others of their groups, are among the "
            f"{of['prompts']:,} prompts of evaluation sets: {', '.join(map(in_markdown, of['files']))}."
        )
        lines += ["", left_out]
    lines += ["", "| file | digest |", "|---|---|"]
    lines += [f"| {in_markdown(name)} | `{digest}` |" for name, digest in metrics["files"].items()]
    return "\n".join(lines)


def _results(metrics: Mapping[str, Any]) -> str:
    verdict = metrics["verdict"]["line"]
    lines = [f"{in_markdown(verdict[0].upper() + verdict[1:])}.", ""]
    if "held_out_by_source" in metrics:
        lines += ["| source | battles | log loss (nats) | winners predicted |", "|---|---|---|---|"]
        lines += [
            f"| {in_markdown(source)} | {of['battles']:,} | {of['loss']:.4f} | {of['accuracy']:.1%} |"
            for source, of in metrics["held_out_by_source"].items()
        ]
        stopped = " These battles also told when to stop." if {"epochs", "members"} & metrics.keys() else ""
        lines += ["", f"Always saying one half has a log loss of 0.6931.{stopped}"]
    elif metrics.get("held_out", {}).get("pair_battles"):
        of = metrics["held_out"]
        losses = f"log loss {of['loss']:.4f} nats; the same win rate for every prompt has {of['constant_loss']:.4f}"
        lines += [f"Scored by the battles on other prompts, {of['pair_battles']:,} battles of the pair: {losses}."]
        if of["accuracy"] is not None:
            lines.append(f"Winners predicted: {of['accuracy']:.1%}.")
    return "\n".join(lines).rstrip()


def _settings(metrics: Mapping[str, Any]) -> str:
    method = {"method": metrics["method"]} if "method" in metrics else {}
    config = {**method, **metrics["config"], **metrics.get("options", {})}
    lines = [f"* {in_markdown(name)}: {in_markdown(str(value))}" for name, value in config.items()]
    if "best_epoch" in metrics:
        lines.append(f"* epochs: {metrics['best_epoch']} of {len(metrics['epochs'])}, by the loss on prompts held out")
    if "members" in metrics:
        seeds = ", ".join(str(member["config"]["seed"]) for member in metrics["members"])
        lines.append(f"* ensemble: {len(metrics['members'])} members, seeds {seeds}; logits are their mean")
    if any("refit" in of for of in (metrics, *metrics.get("members", ()))):
        lines.append("* trained again on all battles, those held out too, after the results above")
    return "\n".join(lines)


def _limits(metrics: Mapping[str, Any]) -> str:
    limits = [
        "* It was judged on prompts of the sources above only; how well it does on others was not measured.",
        "* A win rate ranks prompts. It is no calibrated probability unless it was calibrated as one.",
    ]
    if any(not counts["licenses"] for counts in metrics["data"].values()):
        limits.append("* Sources without stated licences are among its data: whether they allow your use is not known.")
    return "\n".join(limits)


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {in_markdown(name)}" for name, count in counts.items()) or "-"
