"""Record what RouteLLM's own evaluation says, for tests/parity/test_evaluation_parity.py.

Run in an environment of its own (routellm 0.2.0 pins much and needs an OpenAI key to import, any text will do):

    pip install pandas matplotlib psutil routellm==0.2.0
    OPENAI_API_KEY=unused LITELLM_LOCAL_MODEL_COST_MAP=True python tests/parity/make_evaluation_vectors.py

The benchmarks' real evaluate() and the real generate_results() run; only the files behind a benchmark and the router
are replaced by numbers of ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")
# RouteLLM pins numpy 1, which has this under another name.
vars(np).setdefault("trapz", getattr(np, "trapezoid", None))
# Imported there, not called by what runs here; its releases lag behind those of pandas.
sys.modules["pandarallel"] = SimpleNamespace(pandarallel=None)
from routellm.controller import ModelPair  # noqa: E402
from routellm.evals import benchmarks, evaluate  # noqa: E402

HERE = Path(__file__).parent
PAIR = ModelPair(strong="S", weak="W")


def wave(count: int, factor: float) -> np.ndarray:
    """Numbers in [0, 1) that need no file."""
    return np.modf(np.arange(1, count + 1) * factor)[0]


def quality(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return wave(count, 0.7548776662 + seed / 7), wave(count, 0.5698402910 + seed / 11)


def win_rates_of(gains: np.ndarray) -> np.ndarray:
    """Better than chance, and no two equal, at which pandas.qcut raises."""
    return 0.3 * wave(len(gains), 0.6180339887) + 0.2 * (gains > 0) + 0.25


def right_or_wrong(count: int, seed: int) -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    strong, weak = quality(count, seed)
    data = pd.DataFrame({"prompt": [f"prompt {i}" for i in range(count)], "S": strong < 0.8, "W": weak < 0.55})
    return SimpleNamespace(all_data=data), data["S"].to_numpy(float), data["W"].to_numpy(float)


def two_turns(count: int, seed: int) -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    scores = {"S": np.rint(6 + 4 * wave(2 * count, 0.7548776662 + seed)).reshape(count, 2),
              "W": np.rint(5 + 4 * wave(2 * count, 0.5698402910 + seed)).reshape(count, 2)}  # fmt: skip
    questions = pd.DataFrame({"question_id": range(count), "turns": [[f"prompt {i}", "again"] for i in range(count)]})
    judgements = pd.DataFrame(
        {"question_id": i, "model": model, "turn": turn + 1, "score": scores[model][i, turn]}
        for model in ("S", "W")
        for i in range(count)
        for turn in (0, 1)
    )
    return SimpleNamespace(questions=questions, judgements=judgements), scores["S"].mean(1), scores["W"].mean(1)


def record(kind: type, count: int, seed: int) -> dict[str, object]:
    build = two_turns if kind is benchmarks.MTBench else right_or_wrong
    benchmark, strong, weak = build(count, seed)
    vars(benchmark).update(routed_pair=PAIR, overwrite_cache=[], cache={})
    win_rates = win_rates_of(strong - weak)
    controller = SimpleNamespace(batch_calculate_win_rate=lambda prompts, router: pd.Series(win_rates, prompts.index))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        benchmark.cache_path = f"{folder}/cache.npy"
        for threshold, accuracy, counts, total in kind.evaluate(benchmark, controller, "router", 10, True):
            rows.append({"method": "router", "threshold": threshold, "accuracy": accuracy,
                         "strong_percentage": counts["S"] / total * 100})  # fmt: skip
        alone = SimpleNamespace(get_model_accuracy=lambda model: kind.get_model_accuracy(benchmark, model))
        printed = io.StringIO()
        with pd.option_context("display.precision", 15, "display.width", 500), contextlib.redirect_stdout(printed):
            evaluate.generate_results(pd.DataFrame(rows), alone, "tiny", PAIR, folder)
    # The table's one row: index, method, three shares with a percent sign, AUC, APGR.
    cells = printed.getvalue().strip().splitlines()[-1].split()
    assert cells[1] == "router", cells
    return {
        "benchmark": kind.__name__,
        "win_rates": win_rates.tolist(),
        "strong": strong.tolist(),
        "weak": weak.tolist(),
        "curve": [[row["strong_percentage"], row["accuracy"]] for row in rows],
        "cpt_percent": [float(cell.rstrip("%")) for cell in cells[2:5]],
        "apgr": float(cells[6]),
    }


def main() -> None:
    kinds = [(benchmarks.MMLU, 137), (benchmarks.GSM8K, 201), (benchmarks.MTBench, 72), (benchmarks.MMLU, 80)]
    found = {
        "routellm": version("routellm"),
        "pandas": pd.__version__,
        "numpy": np.__version__,
        "cases": [record(kind, count, seed) for seed, (kind, count) in enumerate(kinds)],
    }
    (HERE / "evaluation_vectors.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
