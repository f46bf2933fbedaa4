"""The training of a causal language model's scores: its five output rows, and low-rank changes of its layers.

A prompt's loss is the cross entropy of its score over the *whole* vocabulary. The logits of all other tokens come from
rows that do not change; what of them the loss needs is their log-sum-exp, one number a prompt. Where the layers do not
change either, each prompt is read once, and an epoch is a few products of small matrices.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.configs import CausalLLMConfig
from routellm_fast.training.epoch_loop import Epoch, Fitted, Trainee, run_epochs
from routellm_fast.training.progress import OnProgress, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The projections that LoRA's authors change; where a model has none of these names, all its linear layers.
_ATTENTION: Final = ("q_proj", "v_proj")
# What the rows alone may be off beside a whole pass, relative to the logits' size: rounding.
_AGREEMENT: Final = 1e-3

# Prompts that tell how likely other tokens are before the training.
_SAMPLE: Final = 16


@dataclass(frozen=True, slots=True)
class Task:
    """What to learn.

    Attributes:
        rows: Tokens of u prompts, the header included.
        scores: (u, scores) float32 distribution over the scores of each prompt.
        weight: (u,) float32.
        held_out: (u,) which prompts are not trained on.
    """

    rows: Sequence[Sequence[int]]
    scores: FloatArray
    weight: FloatArray
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned model.

    Attributes:
        module: The model, changed layers merged and score rows written.
        fitted: Losses of each epoch, and the one that was kept.
        logits: (u, scores) float32, of every prompt.
        is_scored: (u,) whether a score is the likeliest of all tokens.
    """

    module: Any
    fitted: Fitted
    logits: FloatArray
    is_scored: NDArray[np.bool_]


def fit(
    module: Any,
    score_ids: Sequence[int],
    task: Task,
    config: CausalLLMConfig,
    on_progress: OnProgress,
    checkpoint: Path | None = None,
) -> FineTuned:
    """Train a model in place, from the checkpoint on where there is one.

    Raises:
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: It is damaged or cannot be written.
        InvalidArgumentError: The training diverged, or the architecture changes its logits after the output layer.
        MissingExtraError: peft is not installed, which method lora needs.
    """
    torch = require("torch", "transformers")
    tied = module.get_input_embeddings().weight is module.get_output_embeddings().weight
    if tied and any(set(score_ids).intersection(row) for row in task.rows):
        raise InvalidArgumentError(
            "the text around the question spells score tokens, and this model reads a token by the row that it writes "
            "it with: training those rows would change what it reads. Name the scores otherwise, e.g. 1 to 5."
        )
    kept = None
    if checkpoint is not None:
        identity = {
            "trainer": "causal_llm",
            "config": asdict(config),
            "base": digest_of(*(weight.detach().cpu().numpy() for weight in module.parameters())),
            "scores": list(score_ids),
            "data": digest_of(*map(np.array, task.rows), task.scores, task.weight, task.held_out),
        }
        kept = Checkpoint(checkpoint, identity)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    run = _LowRankRun if config.method == "lora" else _RowsRun
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trainee = run(torch, module, list(score_ids), task, config, on_progress)
        fitted = run_epochs(
            trainee,
            max_epochs=config.max_epochs,
            patience=config.patience,
            checkpoint=kept,
            on_progress=on_progress,
        )
        return trainee.finished(fitted)


class _Run(Trainee):
    """The part that both methods share. `_states` gives hidden states and the others' log-sum-exp of prompts."""

    title = "a causal_llm training"

    def __init__(
        self,
        torch: Any,
        module: Any,
        score_ids: list[int],
        task: Task,
        config: CausalLLMConfig,
        on_progress: OnProgress,
    ) -> None:
        self.torch, self._module, self._ids, self._task, self._config = torch, module, score_ids, task, config
        # Logits of a whole prompt over a whole vocabulary would take more memory than the model.
        keeps_last = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._last = {"logits_to_keep": 1} if keeps_last else {}
        # All start alike: no score is likelier than another. Rows that were made for the scores hold random numbers.
        output = module.get_output_embeddings().weight.detach().float()
        others = torch.ones(len(output), dtype=torch.bool, device=output.device)
        others[score_ids] = False
        self._rows = torch.nn.Parameter(output[others].mean(0, keepdim=True).cpu().repeat(len(score_ids), 1))
        self._scores = torch.from_numpy(task.scores)
        self._weight = torch.from_numpy(task.weight)
        self._train = np.flatnonzero(~task.held_out)
        self._held_out = np.flatnonzero(task.held_out)
        layers = self._prepare(on_progress)
        self._lift_rows()
        self.weights = {str(index): weight for index, weight in enumerate([self._rows, *layers])}
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def train_epoch(self, epoch: int, on_progress: OnProgress) -> Epoch:
        config = self._config
        order = np.random.default_rng([config.seed, epoch]).permutation(self._train)
        steps_per_epoch = -(-len(order) // config.batch_size)
        steps = config.max_epochs * steps_per_epoch
        total = 0.0
        for index in range(steps_per_epoch):
            batch = order[index * config.batch_size : (index + 1) * config.batch_size]
            step = (epoch - 1) * steps_per_epoch + index
            self.set_rate(config.learning_rate * max(0.0, 1.0 - step / steps))
            self.optimizer.zero_grad()
            total += self._step(batch)
            self.optimizer.step()
            on_progress(Progress(f"epoch {epoch}", step + 1, steps))
        train_loss = total / float(self._weight[self._train].sum())
        held_out_loss = self._mean_loss(self._held_out)
        report = {"train_loss": round(train_loss, 6), "held_out_loss": round(held_out_loss, 6)}
        return Epoch(report, held_out_loss, train_loss, held_out_loss)

    def finished(self, fitted: Fitted) -> FineTuned:
        """Return the model with what was trained in it."""
        logits, others = self._all_logits()
        module = self._merged()
        self._check_agreement(module, logits)
        return FineTuned(module, fitted, logits, logits.max(1) > others)

    def _lift_rows(self) -> None:
        """Move the rows along the mean state until scores together are about as likely as all other tokens.

        The mean of all rows, where they start, is far below the likeliest ones; steps would go into the way up.
        """
        members = self._train[:_SAMPLE]
        with self.torch.no_grad():
            parts = [(hidden, others) for _, hidden, others, _ in self._states(members)]
            hidden, others = (self.torch.cat(of) for of in zip(*parts, strict=True))
            mean = hidden.mean(0)
            missing = others.mean() - (hidden @ self._rows.T).logsumexp(1).mean()
            self._rows += missing / mean.square().sum() * mean

    def _prepare(self, on_progress: OnProgress) -> list[Any]:
        """Make ready what `_states` needs; return the weights of layers that are trained."""
        raise NotImplementedError

    def _step(self, batch: NDArray[np.int64]) -> float:
        """Add a batch's gradient; return the sum of its weighted losses."""
        raise NotImplementedError

    def _states(self, members: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any, Any, Any]]:
        """Yield members, their (n, hidden) states, and (n,) log-sum-exp and largest of the other tokens' logits."""
        raise NotImplementedError

    def _merged(self) -> Any:
        return self._module

    def _losses(self, members: NDArray[np.int64], hidden: Any, others: Any) -> Any:
        logits = hidden @ self._rows.T
        everything = self.torch.logaddexp(others, logits.logsumexp(1))
        return (everything - (self._scores[members] * logits).sum(1)) * self._weight[members]

    def _mean_loss(self, members: NDArray[np.int64]) -> float:
        with self.torch.no_grad():
            parts = self._states(members)
            total = sum(float(self._losses(of, hidden, others).sum()) for of, hidden, others, _ in parts)
        return total / float(self._weight[members].sum())

    def _all_logits(self) -> tuple[FloatArray, FloatArray]:
        members = np.arange(len(self._task.rows))
        logits = np.empty((len(members), len(self._ids)), dtype=np.float32)
        largest = np.empty(len(members), dtype=np.float32)
        with self.torch.no_grad():
            for of, hidden, _, most in self._states(members):
                logits[of], largest[of] = (hidden @ self._rows.T).numpy(), most.numpy()
        return logits, largest

    def _read(self, module: Any, row: Sequence[int]) -> tuple[Any, Any, Any]:
        """Return the last position's state before the output layer, and what `_states` yields of the other tokens."""
        torch = self.torch
        with _input_of(module.get_output_embeddings()) as seen:
            tokens = torch.tensor([list(row)], device=self._module.device)
            output = module(tokens, use_cache=False, **self._last)
        other = output.logits[0, -1:].float()
        mask = torch.zeros(other.shape[1], dtype=torch.bool, device=other.device)
        mask[self._ids] = True
        other = other.masked_fill(mask, -torch.inf)
        return seen[0][0, -1:].float().cpu(), other.logsumexp(1).cpu(), other.amax(1).cpu()

    def _check_agreement(self, module: Any, logits: FloatArray) -> None:
        """Write the rows into the model, and see that a whole pass gives what the rows alone gave."""
        torch = self.torch
        with torch.no_grad():
            output = module.get_output_embeddings()
            output.weight[self._ids] = self._rows.detach().to(output.weight)
            row = torch.tensor([list(self._task.rows[0])], device=output.weight.device)
            whole = module(row, use_cache=False).logits[0, -1, self._ids].float().cpu().numpy()
        if np.abs(whole - logits[0]).max() > _AGREEMENT * max(1.0, float(np.abs(logits[0]).max())):
            raise InvalidArgumentError(
                f"the architecture {module.config.model_type} changes its logits after the output layer, so that rows "
                "cannot be trained apart from it: take another base"
            )


class _RowsRun(_Run):
    """The layers stay: every prompt is read once."""

    def _prepare(self, on_progress: OnProgress) -> list[Any]:
        states = []
        with self.torch.no_grad():
            for index, row in enumerate(self._task.rows):
                states.append(self._read(self._module, row))
                on_progress(Progress("reading prompts", index + 1, len(self._task.rows)))
        self._known = tuple(self.torch.cat(parts) for parts in zip(*states, strict=True))
        return []

    def _states(self, members: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any, Any, Any]]:
        hidden, others, largest = (known[members] for known in self._known)
        yield members, hidden, others, largest

    def _step(self, batch: NDArray[np.int64]) -> float:
        ((members, hidden, others, _),) = self._states(batch)
        loss = self._losses(members, hidden, others).sum()
        (loss / len(batch)).backward()
        return float(loss.detach())


class _LowRankRun(_Run):
    """Low-rank changes of the layers (LoRA, Hu et al. 2021) and the score rows, one prompt a pass."""

    def _prepare(self, on_progress: OnProgress) -> list[Any]:  # noqa: ARG002 - takes a moment
        peft = require("peft", "lora")
        config = self._config
        names = {name.rpartition(".")[2] for name, _ in self._module.named_modules()}
        settings = peft.LoraConfig(
            r=config.lora_rank,
            lora_alpha=2 * config.lora_rank,
            target_modules=list(_ATTENTION) if names.issuperset(_ATTENTION) else "all-linear",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by names that will go
            self._adapted = peft.get_peft_model(self._module, settings)
        return [weight for weight in self._adapted.parameters() if weight.requires_grad]

    def _states(self, members: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any, Any, Any]]:
        for member in members:
            yield np.array([member]), *self._read(self._adapted, self._task.rows[member])

    def _step(self, batch: NDArray[np.int64]) -> float:
        total = 0.0
        for members, hidden, others, _ in self._states(batch):
            loss = self._losses(members, hidden, others).sum()
            (loss / len(batch)).backward()
            total += float(loss.detach())
        return total

    def _merged(self) -> Any:
        return self._adapted.merge_and_unload()


@contextmanager
def _input_of(layer: Any) -> Iterator[list[Any]]:
    seen: list[Any] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
