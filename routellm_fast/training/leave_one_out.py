"""How well the shipped recipe carries over to a source it was not trained on, by token_scale.

`python -m routellm_fast.training.leave_one_out --data DIR --out FILE` trains the head once for each scale and source,
with that source left out, and measures the area under the gain curve there: the share of the strong model's total lead
that is reached when prompts go to it in the order of their win rates. 0.5 is chance. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import RouteLLMError
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.matrix_factorization import train
from routellm_fast.training.shipped import CONFIG, read_rows, weigh

_TOKEN_SCALES: Final = (0.3, 0.1, 0.07, 0.05, 0.03)
# A source needs prompts enough, and a strong model that leads there: else its curve is noise.
_MIN_PROMPTS: Final = 100
_MIN_MEAN_GAP: Final = 0.03


def gain_area(win_rates: NDArray[Any], gaps: NDArray[Any]) -> float:
    """Return the area under the gain curve. Gaps are strong minus weak score, with a sum above 0."""
    order = np.argsort(-win_rates, kind="stable")
    gain = np.concatenate(([0.0], np.cumsum(gaps[order]) / gaps.sum()))
    return float((gain[1:] + gain[:-1]).sum() / (2 * len(gaps)))


def compare(folder: Path, embedder: StaticEmbedder) -> dict[str, dict[str, Any]]:
    """Return mean, standard error and areas by source for every token_scale. Raises DataError."""
    pair_rows, other_rows = read_rows(folder / "train")
    gaps: dict[str, list[float]] = {}
    for _, battle in pair_rows:
        gaps.setdefault(battle.source, []).append(2 * battle.target - 1)
    sources = sorted(s for s, g in gaps.items() if len(g) >= _MIN_PROMPTS and np.mean(g) > _MIN_MEAN_GAP)
    results: dict[str, dict[str, Any]] = {}
    for scale in _TOKEN_SCALES:
        areas = {}
        for source in sources:
            kept = [(name, battle) for name, battle in pair_rows if battle.source != source]
            others = [battle for battle in other_rows if battle.source != source]
            trained = train(weigh(kept, others), embedder, replace(CONFIG, token_scale=scale))
            router = trained.router(model_pair=PAPER_PAIR, embedder=embedder)
            win_rates = router.win_rates([battle.prompt for _, battle in pair_rows if battle.source == source])
            areas[source] = round(gain_area(win_rates, np.array(gaps[source])), 4)
        values = np.array(list(areas.values()))
        error = values.std(ddof=1) / np.sqrt(len(values))
        results[str(scale)] = {"mean": round(values.mean(), 4), "standard_error": round(error, 4), "areas": areas}
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the results as JSON. Return 2 with one line on bad input."""
    parser = argparse.ArgumentParser(prog="python -m routellm_fast.training.leave_one_out", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder: train/")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        results = compare(options.data, StaticEmbedder.load(SHIPPED_ROUTER))
    except RouteLLMError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
