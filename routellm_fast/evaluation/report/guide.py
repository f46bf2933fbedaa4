"""What the report's words mean, for readers who have not met them."""

from __future__ import annotations

from typing import Final

GUIDE: Final[dict[str, str]] = {
    "Strong share": (
        "The share of prompts that the router sends to the strong, expensive model. It rises as the threshold falls; "
        "0 % is the weak model alone, 100 % the strong one."
    ),
    "PGR, performance gap recovered": (
        "How much of the way from the weak model's quality to the strong model's the routed answers go: what they have "
        "over the weak model, divided by what the strong model has over it."
    ),
    "APGR, average PGR": (
        "One number for the whole curve. 0.5 is what random routing reaches; more is better, and the oracle shows the "
        "most that any router could reach. It is given twice. As RouteLLM's code takes it: the area under the curve "
        "between eleven thresholds, the quantiles of the router's own win rates. As its paper defines it: the mean of "
        "PGR at ten strong shares. The two can differ by a few hundredths; compare like with like."
    ),
    "Threshold": (
        "The win rate from which a prompt goes to the strong model: what you set. The tables give thresholds for "
        "shares of the gap and for strong shares, as they stand on these prompts; their shares can differ a little "
        "from CPT, which is read between such points. On other traffic a threshold has another share, so find yours "
        "with routellm-fast calibrate."
    ),
    "CPT(x), call-performance threshold": (
        "The smallest strong share that recovers x of the gap: a CPT(80 %) of 50 % means that half of the calls must "
        "go to the strong model to recover 80 % of the gap. Less is better."
    ),
    "Saving": (
        "How many times less the router needs than random routing of the same quality: in strong calls, where the weak "
        "model counts as free, as in the paper, or in dollars, where both models' prices count."
    ),
    "Interval": (
        "The numbers in brackets are 95 % intervals over the choice of prompts, for random routing over its throws: "
        "with other prompts of the same kind the number would lie there 19 times in 20. Where two routers' intervals "
        "overlap, look at the table of differences, which compares them on the same prompts."
    ),
    "Random": "A router that throws dice. What does not beat it has learned nothing about prompts.",
    "Prompt length": "Longer prompts go to the strong model. What does not beat it has learned little else.",
    "Best single model": (
        "The better of the two models, asked for everything. Where money does not count, a router has to beat it."
    ),
    "Oracle": "Knows the quality of both answers before it chooses. Nothing can be better on these prompts.",
}
