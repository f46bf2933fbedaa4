"""One fine-tuning of an encoder: rows, batches of like length, and the epochs with their checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import ArtifactFormatError
from routellm_fast.onnx.pretrained import PretrainedText, load_model
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.held_out import EarlyStopping, loss_and_accuracy
from routellm_fast.training.progress import OnProgress, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.training.bert import BertConfig

_CLASSES: Final = ("strong wins", "tie", "weak wins")
# Rows that are sorted by length together before they become batches: enough to pad little, few enough to stay shuffled.
_BATCHES_SORTED_TOGETHER: Final = 16
_WARM_UP_SHARE: Final = 0.1
_MAX_GRADIENT_NORM: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Distinct prompts.

    Attributes:
        tokens: Ids of each of n prompts.
        classes: (n, 3) float32 target probabilities of strong wins, tie, weak wins.
        weight: (n,) float32.
        held_out: (n,) bool.
    """

    tokens: Sequence[NDArray[np.int64]]
    classes: FloatArray
    weight: FloatArray
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Losses by epoch, the epoch that was kept (from 1), the model at it, and its (n, 3) probabilities, held out."""

    epochs: list[dict[str, float]]
    best_epoch: int
    model: Any
    probabilities: FloatArray


class Run:
    """The torch side of one fine-tuning. Randomness starts anew at each epoch, from seed and epoch."""

    def __init__(
        self, torch: Any, source: PretrainedText, rows: Rows, config: BertConfig, checkpoint: Path | None
    ) -> None:
        self._torch, self._rows, self._config, self._pad_id = torch, rows, config, source.pad_id
        labels = dict(enumerate(_CLASSES))
        with self._randomness(0):
            self._model = load_model(
                "AutoModelForSequenceClassification",
                source,
                optional="classifier",
                num_labels=len(labels),
                id2label=labels,
                label2id={label: index for index, label in labels.items()},
            )
        self._weights = {name: weight for name, weight in self._model.named_parameters() if weight.requires_grad}
        matrices = [weight for weight in self._weights.values() if weight.ndim > 1]
        others = [weight for weight in self._weights.values() if weight.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
        )
        self._train = np.flatnonzero(~rows.held_out)
        self._held_out = np.flatnonzero(rows.held_out)
        self._steps_per_epoch = -(-len(self._train) // config.batch_size)
        self._epochs: list[dict[str, float]] = []
        self._stopping = EarlyStopping(config.patience)
        self._best = self._copy()
        self._best_probabilities = np.zeros((len(rows.tokens), len(_CLASSES)), dtype=np.float32)
        self._checkpoint: Checkpoint | None = None
        if checkpoint is not None:
            identity = {
                "trainer": "bert",
                "config": asdict(config),
                "base": digest_of(*self._best.values()),
                "tokenizer": hashlib.sha256(source.tokenizer_json).hexdigest(),
                "data": digest_of(*rows.tokens, rows.classes, rows.weight, rows.held_out),
            }
            self._checkpoint = Checkpoint(checkpoint, identity)

    def fit(self, on_progress: OnProgress | None) -> Fitted:
        """Train, from the checkpoint on where there is one."""
        config = self._config
        self._restore()
        for epoch in range(len(self._epochs) + 1, config.max_epochs + 1):
            if self._stopping.is_over(epoch - 1):
                break
            with self._randomness(epoch):
                train_loss = self._train_epoch(epoch)
            probabilities = self._predict(self._held_out)
            report = {"train_class_loss": round(train_loss, 6), **self._report(probabilities)}
            self._epochs.append(report)
            if self._stopping.is_best(epoch, report["held_out_class_loss"]):
                self._best, self._best_probabilities = self._copy(), probabilities
            self._save()
            if on_progress is not None:
                on_progress(Progress(epoch, config.max_epochs, train_loss, report["held_out_class_loss"]))
        with self._torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._torch.from_numpy(self._best[name]))
        return Fitted(self._epochs, self._stopping.best_epoch, self._model.eval(), self._best_probabilities)

    @contextmanager
    def _randomness(self, epoch: int) -> Iterator[None]:
        """Torch's global state, for dropout and initial weights: an epoch repeats after an interruption."""
        with self._torch.random.fork_rng(devices=[]):
            self._torch.manual_seed((self._config.seed << 20) + epoch)
            yield

    def _train_epoch(self, epoch: int) -> float:
        self._model.train()
        total = weights = 0.0
        for step, members in enumerate(self._batches(epoch)):
            self._set_rate((epoch - 1) * self._steps_per_epoch + step)
            self._optimizer.zero_grad()
            log_probabilities = self._log_probabilities(members)
            classes = self._torch.from_numpy(self._rows.classes[members])
            weight = self._torch.from_numpy(self._rows.weight[members])
            losses = -(classes * log_probabilities).sum(dim=1)
            (losses * weight).mean().backward()
            self._torch.nn.utils.clip_grad_norm_(self._weights.values(), _MAX_GRADIENT_NORM)
            self._optimizer.step()
            total += float((losses.detach() * weight).sum())
            weights += float(weight.sum())
        self._model.eval()
        return total / weights

    def _batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Shuffled, but rows of like length together."""
        random = np.random.default_rng([self._config.seed, epoch])
        order = random.permutation(self._train)
        lengths = np.array([len(ids) for ids in self._rows.tokens])
        size = self._config.batch_size
        span = size * _BATCHES_SORTED_TOGETHER
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), span):
            part = order[start : start + span]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches.extend(part[index : index + size] for index in range(0, len(part), size))
        for index in random.permutation(len(batches)):
            yield batches[index]

    def _set_rate(self, step: int) -> None:
        steps = self._config.max_epochs * self._steps_per_epoch
        warm_up = max(1.0, _WARM_UP_SHARE * steps)
        share = min((step + 1) / warm_up, (steps - step) / max(steps - warm_up, 1.0), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * share

    def _log_probabilities(self, members: NDArray[np.int64]) -> Any:
        found = [self._rows.tokens[index] for index in members]
        length = max(map(len, found))
        ids = np.full((len(found), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(found), length), dtype=np.int64)
        for row, tokens in enumerate(found):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        inputs = (self._torch.from_numpy(array) for array in (ids, mask))
        logits = self._model(**dict(zip(("input_ids", "attention_mask"), inputs, strict=True))).logits
        return self._torch.log_softmax(logits, dim=-1)

    def _predict(self, members: NDArray[np.int64]) -> FloatArray:
        found = np.zeros((len(self._rows.tokens), len(_CLASSES)), dtype=np.float32)
        ordered = members[np.argsort([len(self._rows.tokens[index]) for index in members], kind="stable")]
        with self._torch.no_grad():
            for start in range(0, len(ordered), self._config.batch_size):
                batch = ordered[start : start + self._config.batch_size]
                found[batch] = self._log_probabilities(batch).exp().numpy()
        return found

    def _report(self, probabilities: FloatArray) -> dict[str, float]:
        """Cross entropy of the classes, and loss and accuracy of the share of wins, as other kinds report them."""
        members = self._held_out
        found = np.clip(probabilities[members].astype(np.float64), 1e-12, 1.0)
        classes, weight = self._rows.classes[members].astype(np.float64), self._rows.weight[members].astype(np.float64)
        class_loss = float(np.average(-(classes * np.log(found)).sum(axis=1), weights=weight))
        share, target = found[:, 0] + found[:, 1] / 2.0, classes[:, 0] + classes[:, 1] / 2.0
        logits = np.log(share / np.maximum(1.0 - share, 1e-12)).astype(np.float32)
        loss, accuracy = loss_and_accuracy(logits, target, weight)
        return {"held_out_class_loss": round(class_loss, 6), "held_out_loss": loss, "held_out_accuracy": accuracy}

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        state = {
            "epochs": self._epochs,
            "best_loss": self._stopping.best_loss,
            "best_epoch": self._stopping.best_epoch,
        }
        self._checkpoint.save(state, self._state())

    def _restore(self) -> None:
        saved = None if self._checkpoint is None else self._checkpoint.load()
        if self._checkpoint is None or saved is None:
            return
        state, tensors = saved
        torch = self._torch
        # A first step at no rate makes the optimizer's state, so that there is something to compare with.
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0
        for weight in self._weights.values():
            weight.grad = torch.zeros_like(weight)
        self._optimizer.step()
        found = {name: self._checkpoint.tensor(tensors, name, like) for name, like in self._state().items()}
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(torch.from_numpy(found[f"weights.{name}"]))
                for key, value in self._optimizer.state[weight].items():
                    value.copy_(torch.from_numpy(found[f"adam.{name}.{key}"]).reshape(value.shape))
        self._best = {name: found[f"best.{name}"] for name in self._weights}
        self._best_probabilities = found["best_probabilities"]
        try:
            self._epochs = [dict(report) for report in state["epochs"]]
            self._stopping.best_loss, self._stopping.best_epoch = float(state["best_loss"]), int(state["best_epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"{self._checkpoint.folder}/checkpoint.json holds no state of a bert training ({error!r})"
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
            "best_probabilities": self._best_probabilities,
        }

    def _copy(self) -> dict[str, FloatArray]:
        return {name: weight.detach().numpy().copy() for name, weight in self._weights.items()}
