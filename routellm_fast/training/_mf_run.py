"""One training of mf: battles with embedded prompts, scaled inputs, and the epochs with their checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import ArtifactFormatError
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.held_out import EarlyStopping, held_out_battles, loss_and_accuracy
from routellm_fast.training.progress import OnProgress, Progress

if TYPE_CHECKING:
    from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig

_EMBED_BATCH: Final = 1024


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
    def of(cls, battles: Battles, embedder: Embedder, config: MatrixFactorizationConfig) -> Task:
        """Embed and split. Raises InvalidArgumentError where nothing is left on one side."""
        out = held_out_battles(battles, config.held_out_share, seed=config.seed)
        features = embedder.surface_features if isinstance(embedder, StaticEmbedder) else ()
        return cls(battles, embedded(battles.prompts, embedder), features, out)


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """An affine map of embeddings for training, which folds into W exactly.

    z = (e - shift) * factor, and z's last dimension is 1 where the embedder has the surface feature `constant`; only
    there can a shift be folded back, since mf has no biases.
    """

    shift: NDArray[np.float64]
    factor: NDArray[np.float64]
    constant: int | None

    @classmethod
    def fit(
        cls,
        embeddings: FloatArray,
        weight: NDArray[np.float64],
        features: tuple[str, ...],
        config: MatrixFactorizationConfig,
    ) -> Scaling:
        wide = embeddings.astype(np.float64)
        mean = np.average(wide, axis=0, weights=weight)
        deviation = np.sqrt(np.average((wide - mean) ** 2, axis=0, weights=weight))
        tokens = wide.shape[1] - len(features)
        # One scale for all token dimensions: which of them vary much is what the distillation has learned.
        deviation[:tokens] = np.sqrt(np.mean(deviation[:tokens] ** 2)) if tokens else 1.0
        factor = 1.0 / np.where(deviation > 1e-9, deviation, 1.0)
        factor[:tokens] *= config.token_scale
        factor[tokens:] *= config.surface_scale
        constant = tokens + features.index("constant") if "constant" in features else None
        if constant is None:
            return cls(np.zeros_like(mean), factor, None)
        mean[constant], factor[constant] = 0.0, 1.0
        return cls(mean, factor, constant)

    def apply(self, embeddings: FloatArray) -> FloatArray:
        scaled: FloatArray = ((embeddings.astype(np.float64) - self.shift) * self.factor).astype(np.float32)
        return scaled

    def fold(self, projection: NDArray[np.float64]) -> FloatArray:
        """Return W so that W e = projection z."""
        folded = projection * self.factor
        if self.constant is not None:
            folded[:, self.constant] -= folded @ self.shift
        result: FloatArray = folded.astype(np.float32)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Losses by epoch, the epoch that was kept (from 1), its weights and its logits of all battles."""

    epochs: list[dict[str, float]]
    best_epoch: int
    weights: dict[str, FloatArray]
    logits: FloatArray


class Run:
    """The torch side of one training. Where nothing is held out, the last epoch is kept, not the best."""

    def __init__(
        self,
        torch: Any,
        task: Task,
        mask: NDArray[np.bool_],
        config: MatrixFactorizationConfig,
        checkpoint: Path | None,
    ) -> None:
        battles = task.battles
        self._torch, self._config, self._mask = torch, config, mask
        self._token_dims = task.embeddings.shape[1] - len(task.features)
        prompt_weight = np.zeros(len(battles.prompts))
        np.add.at(prompt_weight, battles.prompt[mask], battles.weight[mask])
        self.scaling = Scaling.fit(task.embeddings, prompt_weight, task.features, config)
        inputs = self.scaling.apply(task.embeddings)
        self._random = torch.Generator().manual_seed(config.seed)
        self._inputs = torch.from_numpy(inputs)
        columns = (battles.prompt, battles.model_a, battles.model_b, battles.target, battles.weight)
        self._columns = tuple(torch.from_numpy(column) for column in columns)
        d, dim = config.d, inputs.shape[1]
        # torch's own initial distributions of Embedding and Linear, which RouteLLM uses.
        self._weights = {
            "P": torch.randn(len(battles.models), d, generator=self._random),
            "W": (torch.rand(d, dim, generator=self._random) * 2 - 1) / dim**0.5,
            "w": (torch.rand(d, generator=self._random) * 2 - 1) / d**0.5,
        }
        for weight in self._weights.values():
            weight.requires_grad_()
        self._optimizer = torch.optim.Adam(
            list(self._weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._train = torch.from_numpy(np.flatnonzero(mask))
        steps = config.max_epochs * -(-len(self._train) // config.batch_size)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: max(0.0, 1.0 - step / steps))
        self._epochs: list[dict[str, float]] = []
        self._stopping = EarlyStopping(config.patience)
        self._best, self._best_logits = self._copy(), np.zeros(len(battles), dtype=np.float32)
        self._checkpoint: Checkpoint | None = None
        if checkpoint is not None:
            names = [battles.prompts, battles.groups, battles.models, battles.sources]
            identity = {
                "trainer": "mf",
                "config": asdict(config),
                "data": digest_of(*names, *columns, battles.source, mask),
                "embeddings": digest_of(inputs),
            }
            self._checkpoint = Checkpoint(checkpoint, identity)

    def fit(self, max_epochs: int, on_progress: OnProgress) -> Fitted:
        """Train, from the checkpoint on where there is one."""
        holds_out = not self._mask.all()
        self._restore()
        for epoch in range(len(self._epochs) + 1, max_epochs + 1):
            if holds_out and self._stopping.is_over(epoch - 1):
                break
            self._train_epoch()
            with self._torch.no_grad():
                logits: FloatArray = self._logits(slice(None)).numpy()
            report = self._report(logits)
            self._epochs.append(report)
            if self._stopping.is_best(epoch, report["held_out_loss" if holds_out else "train_loss"]) or not holds_out:
                self._best, self._best_logits = self._copy(), logits
            self._save()
            held_out_loss = report.get("held_out_loss", math.nan)
            on_progress(Progress(epoch, max_epochs, report["train_loss"], held_out_loss))
        best_epoch = self._stopping.best_epoch if holds_out else len(self._epochs)
        return Fitted(self._epochs, best_epoch, self._best, self._best_logits)

    def _train_epoch(self) -> None:
        order = self._torch.randperm(len(self._train), generator=self._random)
        for batch in self._train[order].split(self._config.batch_size):
            self._optimizer.zero_grad()
            self._loss(batch).backward()
            self._optimizer.step()
            self._schedule.step()

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        schedule = self._schedule.state_dict()
        state = {
            "epochs": self._epochs,
            "best_loss": self._stopping.best_loss,
            "best_epoch": self._stopping.best_epoch,
            "schedule": {name: value for name, value in schedule.items() if name != "lr_lambdas"},
        }
        self._checkpoint.save(state, self._state())

    def _restore(self) -> None:
        saved = None if self._checkpoint is None else self._checkpoint.load()
        if self._checkpoint is None or saved is None:
            return
        state, tensors = saved
        torch = self._torch
        # A first step without gradient makes the optimizer's state, so that there is something to compare with.
        for weight in self._weights.values():
            weight.grad = torch.zeros_like(weight)
        self._optimizer.step()
        found = {name: self._checkpoint.tensor(tensors, name, like) for name, like in self._state().items()}
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(torch.from_numpy(found[f"weights.{name}"]))
                for key, value in self._optimizer.state[weight].items():
                    value.copy_(torch.from_numpy(found[f"adam.{name}.{key}"]).reshape(value.shape))
        self._random.set_state(torch.from_numpy(found["random"]))
        self._best = {name: found[f"best.{name}"] for name in self._weights}
        self._best_logits = found["best.logits"]
        try:
            self._epochs = [dict(report) for report in state["epochs"]]
            self._stopping.best_loss, self._stopping.best_epoch = state["best_loss"], state["best_epoch"]
            self._schedule.load_state_dict({**state["schedule"], "lr_lambdas": [None]})
            for group, rate in zip(self._optimizer.param_groups, self._schedule.get_last_lr(), strict=True):
                group["lr"] = rate
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"{self._checkpoint.folder}/checkpoint.json holds no state of an mf training ({error!r})"
            ) from error

    def _state(self) -> dict[str, NDArray[Any]]:
        """Return all that the rest of the training depends on, as arrays."""
        adam = {
            # A step count has no dimension, which the file format does not know.
            f"adam.{name}.{key}": np.atleast_1d(value.numpy())
            for name, weight in self._weights.items()
            for key, value in self._optimizer.state[weight].items()
        }
        return {
            **adam,
            **{f"weights.{name}": value for name, value in self._copy().items()},
            **{f"best.{name}": value for name, value in self._best.items()},
            "best.logits": self._best_logits,
            "random": self._random.get_state().numpy(),
        }

    def _loss(self, battles: Any) -> Any:
        target, weight = self._columns[3][battles], self._columns[4][battles]
        loss = self._torch.nn.functional.binary_cross_entropy_with_logits
        if not self._config.noise:
            return (loss(self._logits(battles), target, reduction="none") * weight).mean()
        shape = (len(battles), self._token_dims)
        noise = self._config.noise * self._torch.randn(shape, generator=self._random)
        # Each draw with both signs: same expectation, but its first-order part, by far the largest, cancels.
        both = (loss(self._logits(battles, sign * noise), target, reduction="none") for sign in (1.0, -1.0))
        return (sum(both) * weight).mean() / 2.0

    def _logits(self, battles: Any, token_noise: Any = None) -> Any:
        prompt, model_a, model_b = (column[battles] for column in self._columns[:3])
        inputs = self._inputs[prompt]
        if token_noise is not None:
            noisy = inputs[:, : self._token_dims] + token_noise
            inputs = self._torch.cat([noisy, inputs[:, self._token_dims :]], dim=1)
        unit = self._torch.nn.functional.normalize(self._weights["P"], dim=1)
        return ((unit[model_a] - unit[model_b]) * (inputs @ self._weights["W"].T)) @ self._weights["w"]

    def _report(self, logits: FloatArray) -> dict[str, float]:
        target, weight = (column.numpy().astype(np.float64) for column in self._columns[3:])
        report: dict[str, float] = {}
        for side, members in (("train", self._mask), ("held_out", ~self._mask)):
            if members.any():
                loss, accuracy = loss_and_accuracy(logits[members], target[members], weight[members])
                report |= {f"{side}_loss": loss, f"{side}_accuracy": accuracy}
        return report

    def _copy(self) -> dict[str, FloatArray]:
        return {name: weight.detach().numpy().copy() for name, weight in self._weights.items()}


def embedded(prompts: tuple[str, ...], embedder: Embedder) -> FloatArray:
    """Return (n, dim) embeddings of prompts, made some at a time."""
    batches = [embedder.embed(prompts[i : i + _EMBED_BATCH]) for i in range(0, len(prompts), _EMBED_BATCH)]
    result: FloatArray = np.concatenate(batches)
    return result
