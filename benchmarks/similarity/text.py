"""Raw text to decision with sw_ranking: the static embedder that ships, battles on real texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import routellm_fast as rf
from benchmarks.harness import environment
from benchmarks.harness.figures import latencies
from benchmarks.harness.turns import clock_ns, time_items
from benchmarks.similarity.effort import Effort
from benchmarks.similarity.names import SW_COMPRESSED, SW_FLOAT32
from benchmarks.similarity.workload import describe, shipped_token_embedder, text_battles

# The command's start takes as long as thousands of decisions, and varies by as much as hundreds.
REPEATS: Final = 10


class SimilarityTextBench:
    """Routers of every precision on the same texts."""

    def __init__(self, effort: Effort) -> None:
        """Embed texts and build routers."""
        self.effort = effort
        embedder = shipped_token_embedder()
        battles, self.prompts, self.source = text_battles(embedder, effort.battles, effort.prompts_of_battles)
        self.routers = battles.routers(embedder=embedder)
        # Half of the prompts on each side: where decisions are hardest, and most often rescored.
        self.threshold = float(np.median(self.routers[SW_FLOAT32].win_rates(self.prompts)))

    def one_by_one(self) -> dict[str, Any]:
        """Time each prompt on its own, win rate and decision."""
        calls: dict[str, Callable[[str], Any]] = {}
        for name, router in self.routers.items():
            calls[f"{name}, win_rate"] = router.win_rate
            calls[f"{name}, route"] = _route(router, self.threshold)
        times = time_items(calls, self.prompts, rounds=max(2, self.effort.rounds // 4), stretch=32, lead_in=4)
        return {
            "routers": {name: describe(router) for name, router in self.routers.items()},
            "prompts": len(self.prompts),
            "source": self.source,
            "threshold": self.threshold,
            "clock_ns": clock_ns(),
            "contenders": {name: latencies(found.ravel()) for name, found in times.items()},
            "quality": self._quality(),
        }

    def command(self, folder: Path) -> dict[str, Any]:
        """Time `routellm-fast route --router DIR` on prompts from standard input."""
        found = {}
        for name in SW_COMPRESSED:
            path = folder / name
            self.routers[name].save(path)
            _, one_s = min((self._run(path, self.prompts[:1]) for _ in range(REPEATS)), key=lambda run: run[1])
            lines, all_s = self._run(path, self.prompts * REPEATS)
            models = [self.routers[name].route(prompt, self.threshold).model for prompt in self.prompts]
            if [line["model"] for line in lines] != models * REPEATS:
                raise AssertionError(f"{name}: the command decides differently from route")
            found[name] = latencies(np.array([line["microseconds"] for line in lines]) * 1e3) | {
                "prompts": len(lines),
                # Reading, deciding and printing; start and load, which one prompt shows, are taken off.
                "wall_us_a_prompt": (all_s - one_s) * 1e6 / (len(lines) - 1),
                "start_and_one_prompt_ms": one_s * 1e3,
            }
        return found

    def _quality(self) -> dict[str, Any]:
        exact = self.routers[SW_FLOAT32].win_rates(self.prompts)
        decisions = {
            name: [decision.is_strong for decision in router.route_batch(self.prompts, self.threshold)]
            for name, router in self.routers.items()
        }
        found = {}
        for name, router in self.routers.items():
            win_rates = router.win_rates(self.prompts)
            found[name] = {
                "max_difference_to_float32": float(np.abs(win_rates - exact).max()),
                "decisions_equal": int(np.equal(decisions[name], decisions[SW_FLOAT32]).sum()),
                "rescored": int((np.abs(win_rates - self.threshold) <= router.error_bound).sum())
                if router.error_bound
                else 0,
            }
        return found

    def _run(self, path: Path, prompts: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
        """Return what the command prints, and how many seconds it took."""
        lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        command = [sys.executable, "-m", "routellm_fast", "route", "--router", str(path)]
        command += ["--threshold", repr(self.threshold), "--jsonl"]
        start = time.perf_counter()
        # Elsewhere, so that the package found is the installed one.
        done = subprocess.run(
            command,
            input=lines,
            cwd=path.parent,
            env=environment.pinned(os.environ),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()], time.perf_counter() - start


def _route(router: rf.Router, threshold: float) -> Callable[[str], Any]:
    return lambda prompt: router.route(prompt, threshold)
