"""Battles between a strong and a weak model, prompt by prompt, for trainers that know no other models.

Such a trainer learns from prompts, not from battles: the battles on one prompt become one row with their weighted mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast import data
from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.training.held_out import held_out_battles, results_by_source, split_counts
from routellm_fast.training.verdict import Verdict, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PairData:
    """n battles on u prompts, each between a strong model and another.

    Attributes:
        battles: The battles.
        a_is_strong: (n,) bool, whether model_a is the strong one.
        out: (n,) bool, which battles are held out.
    """

    battles: Battles
    a_is_strong: NDArray[np.bool_]
    out: NDArray[np.bool_]

    @classmethod
    def of(cls, battles: Battles, strong_models: frozenset[str], held_out_share: float, *, seed: int) -> PairData:
        """Tell the sides apart and hold out about this share of the prompt groups.

        Raises:
            InvalidArgumentError: A battle is not between a strong model and another, or nothing is left on one side of
                the split.
        """
        strong = np.array([name in strong_models for name in battles.models])
        a_is_strong: NDArray[np.bool_] = strong[battles.model_a]
        wrong = np.flatnonzero(a_is_strong == strong[battles.model_b])
        if len(wrong):
            names = [battles.models[index[wrong[0]]] for index in (battles.model_a, battles.model_b)]
            raise InvalidArgumentError(
                f"battles are between a strong and a weak model, found {names[0]} against {names[1]}"
            )
        return cls(battles, a_is_strong, held_out_battles(battles, held_out_share, seed=seed))

    def strong_share(self) -> NDArray[np.float32]:
        """Return the strong model's share of the win in each battle, (n,)."""
        target = self.battles.target
        share: NDArray[np.float32] = np.where(self.a_is_strong, target, 1.0 - target)
        return share

    def prompt_means(self, values: NDArray[np.float64]) -> FloatArray:
        """Return the weighted mean of each prompt's battles, (u, k) float32, of (n, k) values."""
        battles, weight = self.battles, self._weight_sums()
        sums = np.zeros((len(weight), values.shape[1]))
        np.add.at(sums, battles.prompt, values * battles.weight[:, None])
        means: FloatArray = (sums / weight[:, None]).astype(np.float32)
        return means

    def prompt_weights(self) -> FloatArray:
        """Return the weight of each prompt, (u,) float32, with a mean of 1."""
        weight = self._weight_sums()
        weights: FloatArray = (weight / weight.mean()).astype(np.float32)
        return weights

    def prompts_out(self) -> NDArray[np.bool_]:
        """Mark the prompts, (u,), that are held out: a group, and so a prompt, is on one side as a whole."""
        out = np.zeros(len(self.battles.prompts), dtype=np.bool_)
        out[self.battles.prompt] = self.out
        return out

    def counts(self) -> dict[str, Any]:
        """Return what metrics say of the data."""
        return split_counts(self.battles, self.out)

    def results(self, strong_share: NDArray[np.floating[Any]]) -> dict[str, dict[str, float]]:
        """Return the results on held-out battles by source, of a predicted share of the strong model's wins, (u,)."""
        share = np.clip(strong_share, 1e-6, 1.0 - 1e-6).astype(np.float64)
        logits = np.log(share / (1.0 - share))[self.battles.prompt]
        of_a: FloatArray = np.where(self.a_is_strong, logits, -logits).astype(np.float32)
        return results_by_source(self.battles, self.out, of_a)

    def verdict(self, win_rates: NDArray[np.floating[Any]], strong_share: NDArray[np.floating[Any]]) -> Verdict:
        """Hold win rates against a constant and prompt length on the held-out battles.

        Args:
            win_rates: (u,) by which the router sorts prompts.
            strong_share: (u,) the predicted share of the strong model in the win, a tie counting half.
        """
        return judged(self.battles, self.strong_share(), self.out, win_rates, shares=strong_share, seen=~self.out)

    def _weight_sums(self) -> NDArray[np.float64]:
        weight = np.zeros(len(self.battles.prompts))
        np.add.at(weight, self.battles.prompt, self.battles.weight)
        return weight


def of_prompts(rows: list[data.Battle], limit: int | None, seed: int) -> list[data.Battle]:
    """Keep the battles of about so many prompts: whole groups, by the hash that also holds groups out."""
    groups = data.joined_groups((row.prompt, row.group) for row in rows)
    if limit is None or len(groups) <= limit:
        return rows
    # Another seed than the held-out set's: else one would be chosen from the other.
    kept = data.held_out(list(groups.values()), limit / len(groups), seed=seed + (1 << 32))
    names = {prompt for prompt, is_kept in zip(groups, kept, strict=True) if is_kept}
    return [row for row in rows if row.prompt in names]
