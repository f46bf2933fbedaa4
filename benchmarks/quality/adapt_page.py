"""The pages and the picture of what labels of one's own traffic are worth."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from routellm_fast.evaluation.report.plot_style import GRID, INK, MUTED, RC, SERIES
from routellm_fast.extras import require

# What labels have to be worth, and should be: labels → (must, aim), and the worst traffic.
MEAN_GAIN: Final = {100: (0.02, 0.03), 200: (0.03, 0.05), 500: (0.05, 0.08), 1000: (0.065, 0.10)}
WORST: Final = (-0.01, -0.005)
FALSE_VERDICTS: Final = (0.05, 0.025)
EVALUATION_GOALS: Final = {("mmlu", 1500): (0.62, 0.64), ("gsm8k", 500): (0.61, 0.622)}
BETTER: Final = frozenset({"saves", "missed_quality", "saves_nothing_here", "rival"})
ADAPTED: Final = "adapted"
SHIPPED: Final = "as shipped"
ROUTELLM: Final = "RouteLLM's mf"
_LENGTH: Final = "prompt length"


def gains(traffic: Mapping[str, Any], labels: int, name: str = ADAPTED) -> np.ndarray:
    """Return by how much APGR of a way to score exceeds that of the router as shipped, in each draw."""
    return np.array(
        [
            draw["apgr"][name] - draw["apgr"][SHIPPED]
            for draw in traffic["draws"]
            if draw["labels"] == labels and name in draw["apgr"]
        ]
    )


def savings(traffic: Mapping[str, Any], labels: int, name: str) -> np.ndarray:
    """Return the saving at 95 % of the strong model's quality, in each draw."""
    found = [draw["saving"] for draw in traffic["draws"] if draw["labels"] == labels and draw["saving"] is not None]
    return np.array([saving[name] for saving in found if name in saving])


def sizes_of(traffics: Mapping[str, Any]) -> list[int]:
    """Return the numbers of labels that were drawn."""
    return sorted({draw["labels"] for traffic in traffics.values() for draw in traffic["draws"]})


def page(record: Mapping[str, Any]) -> str:
    """Return adapt.md."""
    traffics, noise = record["traffics"], record["noise"]
    sizes = sizes_of(traffics)
    draws = max(len(gains(traffic, sizes[0])) for traffic in traffics.values())
    parts = [
        "# What labels of one's own traffic are worth",
        (
            f"{len(traffics)} traffics: requests of other people with the scores of two models. For each size {draws} "
            "draws of labels, of whole prompt groups; all prompts of other groups are scored. Numbers are means over "
            "draws of APGR, the mean of PGR over all strong shares, less that of the router as shipped; in brackets "
            "the middle 80 % of draws. The recipe and its numbers were chosen on these traffics. Some of their prompts "
            "are among those that the shipped router was trained on (LLMRouter, RouterBench, MMLU-Pro), which makes "
            "its start better and the gain smaller than on a traffic that it never saw."
        ),
        "![Gain of APGR by the number of labels](adapt.svg)",
        "## Against what was asked for",
        _table(
            ["", "found", "must", "aim"],
            [*_goals(traffics), *_noise_goal(noise)],
        ),
        "## Gain over the router as shipped",
        _gain_table(traffics, sizes),
    ]
    if any(len(gains(traffic, size, ROUTELLM)) for traffic in traffics.values() for size in sizes):
        parts += [
            "## RouteLLM's recipe on the same labels",
            (
                "mf by gradient descent, RouteLLM's settings, on the same embeddings with all surface features; its "
                "gain over the router as shipped, means over traffics."
            ),
            _table(
                ["labels", "adapted", "RouteLLM's mf", "worst traffic, adapted", "worst traffic, RouteLLM's mf"],
                [_beside(traffics, size) for size in sizes],
            ),
        ]
    parts += [
        "## Saving at 95 % of the strong model's quality",
        (
            "The share of the strong model's calls that is saved on the rest, at the least strong share that keeps "
            "95 % there; traffics on which the weak model alone keeps less."
        ),
        _saving_table(traffics, sizes),
        "## Verdicts on noise",
        _noise_sentence(noise),
    ]
    return "\n\n".join(parts) + "\n"


MARKERS: Final = ("<!-- adapt:begin -->", "<!-- adapt:end -->")


def summary(record: Mapping[str, Any]) -> str:
    """Return what docs/quality.md shows: the picture of all traffics, and the mean gain by the number of labels."""
    traffics = record["traffics"]
    rows = []
    for size in sizes_of(traffics):
        means = _means(traffics, size)
        if not means:
            continue
        best = max(
            traffics, key=lambda name: gains(traffics[name], size).mean() if len(gains(traffics[name], size)) else -1
        )
        rows.append(
            [
                f"{size:,}",
                str(len(means)),
                f"{np.mean(means):+.3f}",
                f"{min(means):+.3f}",
                f"{max(means):+.3f} ({best})",
            ]
        )
    head = ["labels", "traffics", "APGR gained over the router as shipped, mean", "least", "most"]
    return (
        f"![APGR gained by the number of labels](../benchmarks/results/adapt.svg)\n\n{_table(head, rows)}\n\n"
        f"{_noise_sentence(record['noise'])} All of it is in [adapt.md](../benchmarks/results/adapt.md); "
        "`make quality-adapt` makes it.\n"
    )


def excerpt(record: Mapping[str, Any]) -> str:
    """Return what the README shows: the command, what it said, and its picture."""
    shown = record["example"]
    command = "routellm-fast adapt --labels labels.csv --strong-model … --weak-model … --out my-router"
    said = "\n".join(shown["lines"])
    about = (
        f"These are {shown['labels']:,} labels of the public table {shown['traffic']} ({shown['about']}), of which "
        "some prompts were among those that the shipped router learned from. On other traffics labels are worth [more "
        "or less](benchmarks/results/adapt.md), and sometimes the verdict is not to route."
    )
    picture = f"![Quality by the share of requests at the strong model: {shown['alt']}]"
    return f"```\n$ {command}\n{said}\n```\n\n{about}\n\n{picture}(benchmarks/results/adapt_example.png)\n"


def evaluations_page(looks: Sequence[Mapping[str, Any]]) -> str:
    """Return adapt_evaluations.md: MMLU and GSM8K, every time that they were looked at."""
    parts = [
        "# MMLU and GSM8K as somebody's traffic",
        (
            "Nothing was chosen by these two. Every run of the command is written down here, the last one last. APGR "
            "of the router on the prompts without labels, mean of draws; in brackets the middle 80 % of draws."
        ),
    ]
    for number, look in enumerate(looks, 1):
        parts.append(f"## Look {number}, {look['created']}")
        rows = []
        for name, traffic in look["found"].items():
            for size in sorted({draw["labels"] for draw in traffic["draws"]}):
                draws = [draw["apgr"] for draw in traffic["draws"] if draw["labels"] == size]
                goal = EVALUATION_GOALS.get((name, size))
                rows.append(
                    [
                        name,
                        f"{size:,}",
                        *(_spread(np.array([draw[way] for draw in draws])) for way in (ADAPTED, SHIPPED, _LENGTH)),
                        "" if goal is None else f"must {goal[0]}, aim {goal[1]}",
                    ]
                )
        parts.append(_table(["set", "labels", ADAPTED, SHIPPED, _LENGTH, "asked for"], rows))
    return "\n\n".join(parts) + "\n"


def draw(record: Mapping[str, Any]) -> str:
    """Return adapt.svg: the gain of each traffic by the number of labels, and the mean of those that reach them all."""
    matplotlib = require("matplotlib", "evaluate")
    require("matplotlib.figure", "evaluate")
    traffics = record["traffics"]
    sizes = sizes_of(traffics)
    with matplotlib.rc_context({**RC, "svg.hashsalt": "adapt"}):
        figure = matplotlib.figure.Figure(figsize=(6.8, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for traffic in traffics.values():
            known = [size for size in sizes if len(gains(traffic, size))]
            axes.plot([0, *known], [0.0, *(float(gains(traffic, size).mean()) for size in known)], color=MUTED, lw=0.8)
        means = [float(np.mean(_means(traffics, size))) for size in sizes]
        axes.plot([0, *sizes], [0.0, *means], color=SERIES[0], lw=2.4, label="mean of the traffics with so many labels")
        axes.plot([], [], color=MUTED, lw=0.8, label="a traffic")
        axes.axhline(0.0, color=INK, lw=0.8)
        axes.set_xscale("symlog", linthresh=50)
        axes.set_xticks([0, *sizes], [f"{size:,}" for size in (0, *sizes)])
        axes.minorticks_off()
        axes.set_xlabel("labels of one's own traffic")
        axes.set_ylabel("APGR gained over the router as shipped")
        axes.grid(axis="y", color=GRID, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _means(traffics: Mapping[str, Any], size: int, name: str = ADAPTED) -> list[float]:
    found = [gains(traffic, size, name) for traffic in traffics.values()]
    return [float(values.mean()) for values in found if len(values)]


def _goals(traffics: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for size, (must, aim) in MEAN_GAIN.items():
        if means := _means(traffics, size):
            rows.append([f"mean gain at {size:,} labels", f"{np.mean(means):+.3f}", f"{must:+.3f}", f"{aim:+.3f}"])
    worst = [
        (min(_means(traffics, size)), size) for size in sizes_of(traffics) if size >= 100 and _means(traffics, size)
    ]
    if worst:
        value, size = min(worst)
        rows.append(
            [f"worst traffic from 100 labels on (at {size:,})", f"{value:+.3f}", *(f"{bound:+.3f}" for bound in WORST)]
        )
    return rows


def _noise_goal(noise: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    if not noise:
        return []
    share = sum(found["kind"] in BETTER for found in noise) / len(noise)
    return [["verdict “better” on noise", f"{share:.1%}", *(f"≤ {bound:.1%}" for bound in FALSE_VERDICTS)]]


def _noise_sentence(noise: Sequence[Mapping[str, Any]]) -> str:
    kinds = {kind: sum(found["kind"] == kind for found in noise) for kind in sorted({f["kind"] for f in noise})}
    told = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in kinds.items())
    return (
        f"{len(noise):,} traffics whose scores were dealt out anew over their prompts, of 100, 200 and 400 labels, two "
        f"fifths of them for the proof. Verdicts: {told}."
    )


def _gain_table(traffics: Mapping[str, Any], sizes: Sequence[int]) -> str:
    head = ["traffic", "prompts", SHIPPED, _LENGTH, *(f"{size:,} labels" for size in sizes), "four fifths"]
    rows = []
    for name, traffic in traffics.items():
        start = [draw["apgr"] for draw in traffic["draws"] if draw["labels"] == sizes[0]]
        base = [float(np.mean([draw[way] for draw in start])) for way in (SHIPPED, _LENGTH)]
        cells = [_spread(values, "+") if len(values := gains(traffic, size)) else "" for size in sizes]
        everything = traffic["everything"]
        rows.append(
            [
                f"{name} ({traffic['about']}): {traffic['strong_model']} / {traffic['weak_model']}",
                f"{traffic['prompts']:,}",
                f"{base[0]:.3f}",
                f"{base[1] - base[0]:+.3f}",
                *cells,
                f"{everything[ADAPTED] - everything[SHIPPED]:+.3f}",
            ]
        )
    means = [f"{np.mean(found):+.3f}" if (found := _means(traffics, size)) else "" for size in sizes]
    rows.append(["**mean**", "", "", "", *means, ""])
    return _table(head, rows)


def _beside(traffics: Mapping[str, Any], size: int) -> list[str]:
    own, theirs = _means(traffics, size), _means(traffics, size, ROUTELLM)
    if not own or not theirs:
        return [f"{size:,}", "", "", "", ""]
    return [f"{size:,}", *(f"{value:+.3f}" for value in (np.mean(own), np.mean(theirs), min(own), min(theirs)))]


def _saving_table(traffics: Mapping[str, Any], sizes: Sequence[int]) -> str:
    rows = []
    for name, traffic in traffics.items():
        start = savings(traffic, sizes[0], SHIPPED)
        if not len(start):
            continue
        length = savings(traffic, sizes[0], _LENGTH)
        cells = [f"{values.mean():.1%}" if len(values := savings(traffic, size, ADAPTED)) else "" for size in sizes]
        mixture = (1 - 0.95) * traffic["strong_quality"] / (traffic["strong_quality"] - traffic["weak_quality"])
        rows.append([name, f"{mixture:.1%}", f"{length.mean():.1%}", f"{start.mean():.1%}", *cells])
    return _table(["traffic", "fixed mixture", _LENGTH, SHIPPED, *(f"{size:,} labels" for size in sizes)], rows)


def _spread(values: np.ndarray, sign: str = "") -> str:
    low, high = np.quantile(values, (0.1, 0.9))
    return f"{values.mean():{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
