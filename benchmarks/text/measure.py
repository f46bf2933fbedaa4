"""Raw text to decision, with the router that ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.harness.figures import latencies, median_us, medians, quantiles, ratios
from benchmarks.harness.peers import those_present
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.turns import clock_ns, looped, time_blocks, time_items
from benchmarks.text.names import ROUTE, TEXT_CONTENDERS
from benchmarks.text.peers import text_contender
from benchmarks.text.reference import TextReference, agreement
from benchmarks.text.task import router_of_starts
from benchmarks.text.workload import decision_threshold, texts_of_length


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: prompts at most, rounds, characters of texts, prompts of batches."""

    prompts: int | None
    rounds: int
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]


FULL: Final = Effort(
    prompts=None,
    rounds=11,
    lengths=(16, 64, 256, 1_000, 4_000, 16_000, 1_000_000, 10_000_000),
    batch_sizes=(1, 4, 16, 64, 256, 1024),
)
QUICK: Final = Effort(prompts=128, rounds=2, lengths=(16, 1_000, 1_000_000), batch_sizes=(1, 64))


class TextBench:
    """The shipped router, its reference and its peers."""

    def __init__(self, folder: Path) -> None:
        """Load all; peers that are not installed stand in `missing` with the reason."""
        self.router = router_of_starts()
        self.threshold = decision_threshold(self.router)
        self.missing: dict[str, str] = {}
        try:
            self.reference: TextReference | None = TextReference(self.router, folder / "router")
        except ImportError as error:
            self.reference = None
            self.missing["reference path"] = f"needs tokenizers ({error.name} is not installed)"
        self.contenders, missing = those_present(
            {
                name: partial(text_contender, name, self.router, self.threshold, self.reference)
                for name in TEXT_CONTENDERS
            }
        )
        prompts = prompts_at_hand()
        self.prompts, self.source = prompts.texts, prompts.source
        self.missing |= missing | prompts.missing

    def describe(self) -> dict[str, Any]:
        """Say which router this is, with what its makers measured of its quality."""
        embedder = self.router.embedder
        return {
            "kind": self.router.kind,
            "model_pair": list(self.router.model_pair),
            "embedder": embedder.name,
            "dim": embedder.dim,
            "surface_features": list(getattr(embedder, "surface_features", ())),
            "fingerprint": embedder.fingerprint,
            "apgr": find_apgr(self.router.provenance),
        }

    def one_by_one(self, effort: Effort) -> dict[str, Any]:
        """Time each prompt on its own: p50 to p99 over prompts, where a prompt's figure is its median over rounds."""
        prompts = self.prompts[: effort.prompts]
        # The file is sorted by source; traffic is not, and neighbours that are alike would share cached words.
        order = np.random.default_rng(0).permutation(len(prompts))
        shuffled = time_items(self._each(), [prompts[i] for i in order], rounds=effort.rounds)
        times = {name: found[:, np.argsort(order)] for name, found in shuffled.items()}
        is_ascii = np.array([prompt.isascii() for prompt in prompts])
        return {
            "prompts": len(prompts),
            "source": self.source,
            "rounds": effort.rounds,
            "clock_ns": clock_ns(),
            "characters": quantiles(np.array([len(prompt) for prompt in prompts])),
            "contenders": {
                name: {
                    **latencies(np.median(found, axis=0)),
                    "single_call_p99_us": float(np.percentile(found, 99)) / 1e3,
                    "single_call_p999_us": float(np.percentile(found, 99.9)) / 1e3,
                    "ascii_p50_us": median_us(np.median(found, axis=0)[is_ascii]),
                    "non_ascii_p50_us": median_us(np.median(found, axis=0)[~is_ascii]),
                }
                for name, found in times.items()
            },
            "ascii_prompts": int(is_ascii.sum()),
            "ratio_to_route": ratios(times, ROUTE),
            "raw_ns_per_prompt": {name: np.median(found, axis=0).astype(int).tolist() for name, found in times.items()},
        }

    def throughput(self, effort: Effort, batch: int = 256) -> dict[str, Any]:
        """Time all prompts in batches, on one core."""
        prompts = _shuffled(self.prompts[: effort.prompts])
        batches = [prompts[begin : begin + batch] for begin in range(0, len(prompts), batch)]
        blocks = {name: looped(contender.many, batches) for name, contender in self.contenders.items()}
        times = time_blocks(blocks, rounds=effort.rounds, calls=len(prompts))
        return {
            "batch": batch,
            "prompts_per_s": {name: 1e9 / float(np.median(found)) for name, found in times.items()},
            "ratio_to_route": ratios(times, ROUTE),
        }

    def by_length(self, effort: Effort) -> list[dict[str, Any]]:
        """Time texts of the same number of ASCII characters."""
        rows = []
        for length in effort.lengths:
            # Different texts, so that no branch predictor learns them by heart.
            count = 32 if length <= 1_000_000 else 8
            texts = texts_of_length(length, count, self.prompts)
            times = time_items(self._each(), texts, rounds=effort.rounds)
            rows.append({"characters": length, "texts": count} | medians(times, ROUTE))
        return rows

    def by_batch(self, effort: Effort) -> list[dict[str, Any]]:
        """Time the same prompts in batches of every size; figures are microseconds a prompt."""
        sample = _shuffled(self.prompts)[: max(effort.batch_sizes)]
        total = len(sample)
        rows = []
        for size in effort.batch_sizes:
            batches = [sample[begin : begin + size] for begin in range(0, total, size)]
            blocks = {name: looped(contender.many, batches) for name, contender in self.contenders.items()}
            times = time_blocks(blocks, rounds=max(2, effort.rounds // 2), calls=total)
            rows.append({"batch": size} | medians(times, ROUTE))
        return rows

    def quality(self, effort: Effort) -> dict[str, Any] | None:
        """Hold every decision against the float64 path, one call each and batched."""
        if self.reference is None:
            return None
        prompts = self.prompts[: effort.prompts]
        expected = self.reference.win_rates(prompts)
        decisions = [self.router.route(prompt, self.threshold) for prompt in prompts]
        if decisions != self.router.route_batch(prompts, self.threshold):
            raise AssertionError("route_batch decides differently from route: its figures would be worthless")
        win_rates = np.array([decision.win_rate for decision in decisions])
        is_strong = np.array([decision.is_strong for decision in decisions])
        return agreement(win_rates, is_strong, expected, self.threshold)

    def _each(self) -> dict[str, Callable[[str], Any]]:
        return {name: contender.one for name, contender in self.contenders.items()}


def find_apgr(provenance: Any) -> dict[str, float]:
    """Return every APGR that stands in a router's provenance, by its path."""
    found: dict[str, float] = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, str(key)))
        elif isinstance(value, (int, float)) and any("apgr" in part.lower() for part in path):
            found[" ".join(part for part in path if part.lower() not in ("metrics", "evaluation"))] = float(value)

    walk(dict(provenance), ())
    return found


def _shuffled(prompts: Sequence[str]) -> list[str]:
    return [prompts[i] for i in np.random.default_rng(0).permutation(len(prompts))]
