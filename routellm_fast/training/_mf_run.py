"""One training of mf: battles with embedded prompts, scaled inputs, and what an epoch does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.embedding import embedded
from routellm_fast.training.epoch_loop import Epoch, Trainee
from routellm_fast.training.held_out import held_out_battles, loss_and_accuracy
from routellm_fast.training.progress import OnProgress
from routellm_fast.training.scaling import Scaling

LOGITS: Final = "best.logits"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Battles with the embeddings of their prompts, and which of them are held out.

    Attributes:
        battles: n battles.
        embeddings: (u, dim) float32, of the distinct prompts.
        features: Names of the last dimensions that are surface features.
        out: (n,) bool, held out.
    """

    battles: Battles
    embeddings: FloatArray
    features: tuple[str, ...]
    out: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        battles: Battles,
        embedder: Embedder,
        config: MatrixFactorizationConfig,
        on_progress: OnProgress | None = None,
    ) -> Task:
        """Embed and split. Raises InvalidArgumentError where nothing is left on one side."""
        out = held_out_battles(battles, config.held_out_share, seed=config.seed)
        features = embedder.surface_features if isinstance(embedder, StaticEmbedder) else ()
        return cls(battles, embedded(battles.prompts, embedder, on_progress), features, out)


class Run(Trainee):
    """The torch side of one training on the battles that `mask`, (n,), marks; all others are held out."""

    title = "an mf training"

    def __init__(self, torch: Any, task: Task, mask: NDArray[np.bool_], config: MatrixFactorizationConfig) -> None:
        battles = task.battles
        self.torch, self._config, self._mask = torch, config, mask
        self._token_dims = task.embeddings.shape[1] - len(task.features)
        prompt_weight = np.zeros(len(battles.prompts))
        np.add.at(prompt_weight, battles.prompt[mask], battles.weight[mask])
        self.scaling = Scaling.fit(task.embeddings, prompt_weight, task.features, config)
        self._battles, self._scaled = battles, self.scaling.apply(task.embeddings)
        self._random = torch.Generator().manual_seed(config.seed)
        self._inputs = torch.from_numpy(self._scaled)
        self._columns = tuple(map(torch.from_numpy, self._columns_of(battles)))
        d, dim = config.d, self._scaled.shape[1]
        # torch's own initial distributions of Embedding and Linear, which RouteLLM uses.
        self.weights = {
            "P": torch.randn(len(battles.models), d, generator=self._random),
            "W": (torch.rand(d, dim, generator=self._random) * 2 - 1) / dim**0.5,
            "w": (torch.rand(d, generator=self._random) * 2 - 1) / d**0.5,
        }
        for weight in self.weights.values():
            weight.requires_grad_()
        self.optimizer = torch.optim.Adam(
            list(self.weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._train = torch.from_numpy(np.flatnonzero(mask))

    def checkpoint(self, folder: Path | None) -> Checkpoint | None:
        """Return where this training keeps its state; None for nowhere."""
        if folder is None:
            return None
        battles = self._battles
        names = [battles.prompts, battles.groups, battles.models, battles.sources]
        identity = {
            "trainer": "mf",
            "config": asdict(self._config),
            "data": digest_of(*names, *self._columns_of(battles), battles.source, self._mask),
            "embeddings": digest_of(self._scaled),
        }
        return Checkpoint(folder, identity)

    def train_epoch(self, epoch: int, on_progress: OnProgress) -> Epoch:  # noqa: ARG002 - it reports whole epochs only
        config = self._config
        order = self.torch.randperm(len(self._train), generator=self._random)
        batches = self._train[order].split(config.batch_size)
        steps = config.max_epochs * len(batches)
        for index, batch in enumerate(batches):
            step = (epoch - 1) * len(batches) + index
            self.set_rate(config.learning_rate * max(0.0, 1.0 - step / steps))
            self.optimizer.zero_grad()
            self._loss(batch).backward()
            self.optimizer.step()
        with self.torch.no_grad():
            logits: FloatArray = self._logits(slice(None)).numpy()
        report = self._report(logits)
        train_loss, held_out_loss = report["train_loss"], report.get("held_out_loss", math.nan)
        judged = train_loss if self._mask.all() else held_out_loss
        return Epoch(report, judged, train_loss, held_out_loss, {LOGITS: logits})

    def blank_outputs(self) -> dict[str, FloatArray]:
        return {LOGITS: np.zeros(len(self._battles), dtype=np.float32)}

    def state(self) -> dict[str, NDArray[Any]]:
        return {"random": self._random.get_state().numpy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._random.set_state(self.torch.from_numpy(state["random"]))

    @staticmethod
    def _columns_of(battles: Battles) -> tuple[NDArray[Any], ...]:
        return battles.prompt, battles.model_a, battles.model_b, battles.target, battles.weight

    def _loss(self, battles: Any) -> Any:
        target, weight = self._columns[3][battles], self._columns[4][battles]
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits
        if not self._config.noise:
            return (loss(self._logits(battles), target, reduction="none") * weight).mean()
        shape = (len(battles), self._token_dims)
        noise = self._config.noise * self.torch.randn(shape, generator=self._random)
        # Each draw with both signs: same expectation, but its first-order part, by far the largest, cancels.
        both = (loss(self._logits(battles, sign * noise), target, reduction="none") for sign in (1.0, -1.0))
        return (sum(both) * weight).mean() / 2.0

    def _logits(self, battles: Any, token_noise: Any = None) -> Any:
        prompt, model_a, model_b = (column[battles] for column in self._columns[:3])
        inputs = self._inputs[prompt]
        if token_noise is not None:
            noisy = inputs[:, : self._token_dims] + token_noise
            inputs = self.torch.cat([noisy, inputs[:, self._token_dims :]], dim=1)
        unit = self.torch.nn.functional.normalize(self.weights["P"], dim=1)
        return ((unit[model_a] - unit[model_b]) * (inputs @ self.weights["W"].T)) @ self.weights["w"]

    def _report(self, logits: FloatArray) -> dict[str, float]:
        target, weight = (column.numpy().astype(np.float64) for column in self._columns[3:])
        report: dict[str, float] = {}
        for side, members in (("train", self._mask), ("held_out", ~self._mask)):
            if members.any():
                loss, accuracy = loss_and_accuracy(logits[members], target[members], weight[members])
                report |= {f"{side}_loss": loss, f"{side}_accuracy": accuracy}
        return report
