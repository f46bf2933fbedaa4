"""One fine-tuning of an encoder: rows, batches of like length, and what an epoch does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.onnx.pretrained import PretrainedText, load_model
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.configs import BertConfig
from routellm_fast.training.epoch_loop import Epoch, Trainee
from routellm_fast.training.held_out import loss_and_accuracy
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBABILITIES: Final = "best_probabilities"

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


class Run(Trainee):
    """The torch side of one fine-tuning. Randomness starts anew at each epoch, from seed and epoch."""

    title = "a bert training"

    def __init__(self, torch: Any, source: PretrainedText, rows: Rows, config: BertConfig) -> None:
        self.torch, self._source, self._rows, self._config = torch, source, rows, config
        labels = dict(enumerate(_CLASSES))
        with self._randomness(0):
            self.model = load_model(
                "AutoModelForSequenceClassification",
                source,
                optional="classifier",
                num_labels=len(labels),
                id2label=labels,
                label2id={label: index for index, label in labels.items()},
            )
        self.weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        matrices = [weight for weight in self.weights.values() if weight.ndim > 1]
        others = [weight for weight in self.weights.values() if weight.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
        )
        self._train = np.flatnonzero(~rows.held_out)
        self._held_out = np.flatnonzero(rows.held_out)

    def checkpoint(self, folder: Path | None) -> Checkpoint | None:
        """Return where this training, not yet begun, keeps its state; None for nowhere."""
        if folder is None:
            return None
        rows = self._rows
        identity = {
            "trainer": "bert",
            "config": asdict(self._config),
            "base": digest_of(*self.copied_weights().values()),
            "tokenizer": hashlib.sha256(self._source.tokenizer_json).hexdigest(),
            "data": digest_of(*rows.tokens, rows.classes, rows.weight, rows.held_out),
        }
        return Checkpoint(folder, identity)

    def train_epoch(self, epoch: int, on_progress: OnProgress) -> Epoch:  # noqa: ARG002 - it reports whole epochs only
        with self._randomness(epoch):
            train_loss = self._train_on_all(epoch)
        probabilities = self._predict(self._held_out)
        report = {"train_class_loss": round(train_loss, 6), **self._report(probabilities)}
        held_out_loss = report["held_out_class_loss"]
        return Epoch(report, held_out_loss, train_loss, held_out_loss, {PROBABILITIES: probabilities})

    def blank_outputs(self) -> dict[str, FloatArray]:
        return {PROBABILITIES: np.zeros((len(self._rows.tokens), len(_CLASSES)), dtype=np.float32)}

    @contextmanager
    def _randomness(self, epoch: int) -> Iterator[None]:
        """Torch's global state, for dropout and initial weights: an epoch repeats after an interruption."""
        with self.torch.random.fork_rng(devices=[]):
            self.torch.manual_seed((self._config.seed << 20) + epoch)
            yield

    def _train_on_all(self, epoch: int) -> float:
        self.model.train()
        total = weights = 0.0
        steps_per_epoch = -(-len(self._train) // self._config.batch_size)
        for index, members in enumerate(self._batches(epoch)):
            self.set_rate(self._rate((epoch - 1) * steps_per_epoch + index, steps_per_epoch))
            self.optimizer.zero_grad()
            log_probabilities = self._log_probabilities(members)
            classes = self.torch.from_numpy(self._rows.classes[members])
            weight = self.torch.from_numpy(self._rows.weight[members])
            losses = -(classes * log_probabilities).sum(dim=1)
            (losses * weight).mean().backward()
            self.torch.nn.utils.clip_grad_norm_(self.weights.values(), _MAX_GRADIENT_NORM)
            self.optimizer.step()
            total += float((losses.detach() * weight).sum())
            weights += float(weight.sum())
        self.model.eval()
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

    def _rate(self, step: int, steps_per_epoch: int) -> float:
        steps = self._config.max_epochs * steps_per_epoch
        warm_up = max(1.0, _WARM_UP_SHARE * steps)
        share = min((step + 1) / warm_up, (steps - step) / max(steps - warm_up, 1.0), 1.0)
        return self._config.learning_rate * share

    def _log_probabilities(self, members: NDArray[np.int64]) -> Any:
        found = [self._rows.tokens[index] for index in members]
        length = max(map(len, found))
        ids = np.full((len(found), length), self._source.pad_id, dtype=np.int64)
        mask = np.zeros((len(found), length), dtype=np.int64)
        for row, tokens in enumerate(found):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        inputs = (self.torch.from_numpy(array) for array in (ids, mask))
        logits = self.model(**dict(zip(("input_ids", "attention_mask"), inputs, strict=True))).logits
        return self.torch.log_softmax(logits, dim=-1)

    def _predict(self, members: NDArray[np.int64]) -> FloatArray:
        found = np.zeros((len(self._rows.tokens), len(_CLASSES)), dtype=np.float32)
        ordered = members[np.argsort([len(self._rows.tokens[index]) for index in members], kind="stable")]
        with self.torch.no_grad():
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
