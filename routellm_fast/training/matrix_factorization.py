"""Train RouteLLM's `mf`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast._extras import require
from routellm_fast.data.battles import Battles
from routellm_fast.data.split import held_out
from routellm_fast.embedders.base import Embedder, FloatArray
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter

_EMBED_BATCH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFactorizationConfig:
    """How to train.

    Attributes:
        d: Length of a model vector.
        learning_rate: Adam's; falls linearly to 0 over max_epochs.
        weight_decay: Adam's, on all weights.
        batch_size: Battles a step.
        max_epochs: Passes over the battles, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        noise: Standard deviation of normal noise added to the token dimensions while training (RouteLLM's alpha), after
            they were scaled to unit variance.
        token_scale: Scale of the token dimensions in training. Below 1, weight decay holds them closer to zero.
        surface_scale: Scale of the surface features in training.
        seed: Of initial weights, order, noise and the held-out groups.
    """

    d: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 1e-5
    batch_size: int = 64
    max_epochs: int = 20
    patience: int = 3
    held_out_share: float = 0.1
    noise: float = 0.1
    token_scale: float = 1.0
    surface_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.d, self.batch_size, self.max_epochs, self.patience)
        scales = (self.learning_rate, self.token_scale, self.surface_scale)
        fits = all(count >= 1 for count in counts) and all(np.isfinite(scale) and scale > 0 for scale in scales)
        if not fits or not 0.0 < self.held_out_share < 1.0 or self.weight_decay < 0 or self.noise < 0:
            message = (
                "counts are at least 1, learning rate and scales above 0, weight decay and noise at least 0, and the "
                f"held-out share lies between 0 and 1; found {self}"
            )
            raise InvalidArgumentError(message)
        if not 0 <= self.seed < 1 << 63:
            message = f"a seed is an integer in [0, 2^63), found {self.seed}"
            raise InvalidArgumentError(message)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training stands after an epoch. Losses are mean log losses in nats."""

    epoch: int
    max_epochs: int
    train_loss: float
    held_out_loss: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainedMatrixFactorization:
    """What MatrixFactorizationRouter takes, and how it came about.

    Attributes:
        model_names: The m models in the order of P's rows.
        P: (m, d) float32.
        W: (d, dim) float32, for embeddings as the embedder makes them.
        w: (d,) float32.
        metrics: JSON-able: counts, config, losses and accuracy by epoch, and held-out results by source.
    """

    model_names: tuple[str, ...]
    P: FloatArray
    W: FloatArray
    w: FloatArray
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def router(self, **common: Any) -> MatrixFactorizationRouter:
        """Return the router; see MatrixFactorizationRouter for the arguments, model_pair and embedder first of all."""
        return MatrixFactorizationRouter(self.model_names, self.P, self.W, self.w, **common)


@dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
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
    ) -> _Scaling:
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


def train(
    battles: Battles,
    embedder: Embedder,
    config: MatrixFactorizationConfig | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainedMatrixFactorization:
    """Train model vectors and the projection of embeddings on battles.

    logit_m = w . (P_m / |P_m| o W e), no biases; the log loss of sigmoid(logit_a - logit_b) is minimised with Adam,
    and the epoch with the least loss on held-out prompt groups is kept. The same battles, embedder and config give
    the same bytes on one machine: one thread, deterministic kernels, own random state.

    Args:
        battles: What to learn from; see routellm_fast.data.
        embedder: Of the prompts. Surface features of a StaticEmbedder are scaled apart from its token dimensions.
        config: None for RouteLLM's own settings.
        on_progress: Called after each epoch.

    Raises:
        InvalidArgumentError: Nothing is left on one side of the split.
        MissingExtraError: torch is not installed.

    Source:
        RouteLLM's train_matrix_factorization.py; early stopping, weights, soft targets and the scaling are ours.
    """
    config = config or MatrixFactorizationConfig()
    torch = require("torch", "train")
    out = held_out(battles.groups, config.held_out_share, seed=config.seed)[battles.prompt]
    if out.all() or not out.any():
        message = (
            f"of {len(battles)} battles on {len(set(battles.groups))} prompt groups, {int(out.sum())} were held out: "
            "both sides need some. Give more data, or another held_out_share or seed."
        )
        raise InvalidArgumentError(message)
    embeddings = _embed(battles.prompts, embedder)
    features = embedder.surface_features if isinstance(embedder, StaticEmbedder) else ()
    prompt_weight = np.zeros(len(battles.prompts))
    np.add.at(prompt_weight, battles.prompt[~out], battles.weight[~out])
    scaling = _Scaling.fit(embeddings, prompt_weight, features, config)
    token_dims = embeddings.shape[1] - len(features)
    with _deterministic(torch):
        run = _Run(torch, battles, scaling.apply(embeddings), token_dims, config)
        epochs, best_epoch, weights, logits = run.fit(~out, on_progress)
    trained = {name: value.astype(np.float64) for name, value in weights.items()}
    return TrainedMatrixFactorization(
        model_names=battles.models,
        P=weights["P"],
        W=scaling.fold(trained["W"]),
        w=weights["w"],
        metrics={
            "battles": {"train": int((~out).sum()), "held_out": int(out.sum())},
            "prompts": len(battles.prompts),
            "prompt_groups": len(set(battles.groups)),
            "models": len(battles.models),
            "config": asdict(config),
            "epochs": epochs,
            "best_epoch": best_epoch,
            "held_out_by_source": _by_source(battles, out, logits),
        },
    )


class _Run:
    """The torch side of one training."""

    def __init__(
        self, torch: Any, battles: Battles, inputs: FloatArray, token_dims: int, config: MatrixFactorizationConfig
    ) -> None:
        self._torch, self._config, self._token_dims = torch, config, token_dims
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

    def fit(
        self, mask: NDArray[np.bool_], on_progress: Callable[[Progress], None] | None
    ) -> tuple[list[dict[str, float]], int, dict[str, FloatArray], FloatArray]:
        """Return losses by epoch, the best epoch (from 1), its weights and its logits of all battles."""
        torch, config = self._torch, self._config
        train = torch.from_numpy(np.flatnonzero(mask))
        optimizer = torch.optim.Adam(
            list(self._weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = config.max_epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / steps))
        epochs: list[dict[str, float]] = []
        best = (np.inf, 0, self._copy(), np.zeros(0, dtype=np.float32))
        for epoch in range(1, config.max_epochs + 1):
            for batch in train[torch.randperm(len(train), generator=self._random)].split(config.batch_size):
                optimizer.zero_grad()
                self._loss(batch).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                logits: FloatArray = self._logits(slice(None)).numpy()
            report = self._report(logits, mask)
            epochs.append(report)
            if on_progress is not None:
                on_progress(Progress(epoch, config.max_epochs, report["train_loss"], report["held_out_loss"]))
            if report["held_out_loss"] < best[0]:
                best = (report["held_out_loss"], epoch, self._copy(), logits)
            elif epoch - best[1] >= config.patience:
                break
        return epochs, best[1], best[2], best[3]

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

    def _report(self, logits: FloatArray, mask: NDArray[np.bool_]) -> dict[str, float]:
        target, weight = (column.numpy().astype(np.float64) for column in self._columns[3:])
        report: dict[str, float] = {}
        for side, members in (("train", mask), ("held_out", ~mask)):
            loss, accuracy = _loss_and_accuracy(logits[members], target[members], weight[members])
            report |= {f"{side}_loss": loss, f"{side}_accuracy": accuracy}
        return report

    def _copy(self) -> dict[str, FloatArray]:
        return {name: weight.detach().numpy().copy() for name, weight in self._weights.items()}


def _loss_and_accuracy(
    logits: FloatArray, target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Weighted log loss in nats, and share of battles with a winner that is predicted; 0 where none has one."""
    wide = logits.astype(np.float64)
    losses = np.logaddexp(0.0, wide) - target * wide
    decided = target != 0.5
    right = (wide > 0) == (target > 0.5)
    accuracy = np.average(right[decided], weights=weight[decided]) if decided.any() else 0.0
    return round(float(np.average(losses, weights=weight)), 6), round(float(accuracy), 6)


def _by_source(battles: Battles, out: NDArray[np.bool_], logits: FloatArray) -> dict[str, dict[str, float]]:
    results = {}
    for index, source in enumerate(battles.sources):
        members = out & (battles.source == index)
        if members.any():
            target, weight = (column[members].astype(np.float64) for column in (battles.target, battles.weight))
            loss, accuracy = _loss_and_accuracy(logits[members], target, weight)
            results[source] = {"battles": int(members.sum()), "loss": loss, "accuracy": accuracy}
    return results


def _embed(prompts: tuple[str, ...], embedder: Embedder) -> FloatArray:
    batches = [embedder.embed(prompts[i : i + _EMBED_BATCH]) for i in range(0, len(prompts), _EMBED_BATCH)]
    result: FloatArray = np.concatenate(batches)
    return result


@contextmanager
def _deterministic(torch: Any) -> Iterator[None]:
    """One thread and deterministic kernels; torch's own settings are put back after."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
