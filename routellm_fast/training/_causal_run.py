"""The training of a causal language model's scores: its five output rows, and low-rank changes of its layers.

A prompt's loss is the cross entropy of its score over the *whole* vocabulary. The logits of all other tokens come from
rows that do not change; what of them the loss needs is their log-sum-exp, one number a prompt. Where the layers do not
change either, each prompt is read once, and an epoch is a few products of small matrices.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.training.checkpoint import Checkpoint, digest_of
from routellm_fast.training.held_out import EarlyStopping

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.training.causal_llm import CausalLLMConfig

# The projections that LoRA's authors change; where a model has none of these names, all its linear layers.
_ATTENTION: Final = ("q_proj", "v_proj")
# What the rows alone may be off beside a whole pass, relative to the logits' size: rounding.
_AGREEMENT: Final = 1e-3

# Prompts that tell how likely other tokens are before the training.
_SAMPLE: Final = 16

OnStep = Callable[[str, int, int], None]


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
class Fitted:
    """What a training reached.

    Attributes:
        module: The model, changed layers merged and score rows written.
        epochs: Losses of each epoch.
        best_epoch: The one that was kept, from 1.
        logits: (u, scores) float32, of every prompt.
        is_scored: (u,) whether a score is the likeliest of all tokens.
    """

    module: Any
    epochs: list[dict[str, float]]
    best_epoch: int
    logits: FloatArray
    is_scored: NDArray[np.bool_]


def fit(
    module: Any,
    score_ids: Sequence[int],
    task: Task,
    config: CausalLLMConfig,
    on_step: OnStep,
    checkpoint: Path | None = None,
) -> Fitted:
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
    identity = None
    if checkpoint is not None:
        identity = {
            "trainer": "causal_llm",
            "config": asdict(config),
            "base": digest_of(*(weight.detach().cpu().numpy() for weight in module.parameters())),
            "scores": list(score_ids),
            "data": digest_of(*map(np.array, task.rows), task.scores, task.weight, task.held_out),
        }
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    run = _LowRankRun if config.method == "lora" else _RowsRun
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        kept = None if checkpoint is None or identity is None else Checkpoint(checkpoint, identity)
        return run(torch, module, list(score_ids), task, config, on_step).fit(kept)


class _Run:
    """What both methods share. `_states` gives hidden states and the others' log-sum-exp of prompts."""

    def __init__(
        self, torch: Any, module: Any, score_ids: list[int], task: Task, config: CausalLLMConfig, on_step: OnStep
    ) -> None:
        self._torch, self._module, self._ids, self._task, self._config = torch, module, score_ids, task, config
        self._on_step = on_step
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
        self._stopping = EarlyStopping(config.patience)

    def fit(self, checkpoint: Checkpoint | None) -> Fitted:
        torch, config = self._torch, self._config
        self._lift_rows()
        optimizer = torch.optim.AdamW(self._trained(), lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = config.max_epochs * -(-len(self._train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / steps))
        epochs: list[dict[str, float]] = []
        best = self._copy()
        saved = None if checkpoint is None else checkpoint.load()
        if checkpoint is not None and saved is not None:
            epochs, best = self._restore(checkpoint, saved, optimizer, schedule)
        while len(epochs) < config.max_epochs and not self._stopping.is_over(len(epochs)):
            epoch = len(epochs) + 1
            order = np.random.default_rng([config.seed, epoch]).permutation(self._train)
            total = 0.0
            for start in range(0, len(order), config.batch_size):
                batch = order[start : start + config.batch_size]
                optimizer.zero_grad()
                total += self._step(batch)
                optimizer.step()
                schedule.step()
                self._show(f"epoch {epoch}", (epoch - 1) * len(order) + start + len(batch), steps * config.batch_size)
            train_loss = total / float(self._weight[self._train].sum())
            held_out_loss = self._mean_loss(self._held_out)
            epochs.append({"train_loss": round(train_loss, 6), "held_out_loss": round(held_out_loss, 6)})
            if self._stopping.is_best(epoch, held_out_loss):
                best = self._copy()
            if checkpoint is not None:
                state = {
                    "epochs": epochs,
                    "best_loss": self._stopping.best_loss,
                    "best_epoch": self._stopping.best_epoch,
                }
                checkpoint.save(state, self._arrays(best, optimizer))
            self._on_step(f"epoch {epoch}, held-out loss {held_out_loss:.4f}", epoch, config.max_epochs)
        self._put_back(best)
        logits, others = self._all_logits()
        module = self._finished()
        self._check_agreement(module, logits)
        return Fitted(module, epochs, self._stopping.best_epoch, logits, logits.max(1) > others)

    def _lift_rows(self) -> None:
        """Move the rows along the mean state until scores together are about as likely as all other tokens.

        The mean of all rows, where they start, is far below the likeliest ones; steps would go into the way up.
        """
        members = self._train[:_SAMPLE]
        with self._torch.no_grad():
            parts = [(hidden, others) for _, hidden, others, _ in self._states(members)]
            hidden, others = (self._torch.cat(of) for of in zip(*parts, strict=True))
            mean = hidden.mean(0)
            missing = others.mean() - (hidden @ self._rows.T).logsumexp(1).mean()
            self._rows += missing / mean.square().sum() * mean

    def _trained(self) -> list[Any]:
        return [self._rows]

    def _step(self, batch: NDArray[np.int64]) -> float:
        """Add a batch's gradient; return the sum of its weighted losses."""
        raise NotImplementedError

    def _states(self, members: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any, Any, Any]]:
        """Yield members, their (n, hidden) states, and (n,) log-sum-exp and largest of the other tokens' logits."""
        raise NotImplementedError

    def _finished(self) -> Any:
        return self._module

    def _losses(self, members: NDArray[np.int64], hidden: Any, others: Any) -> Any:
        logits = hidden @ self._rows.T
        everything = self._torch.logaddexp(others, logits.logsumexp(1))
        return (everything - (self._scores[members] * logits).sum(1)) * self._weight[members]

    def _mean_loss(self, members: NDArray[np.int64]) -> float:
        with self._torch.no_grad():
            parts = self._states(members)
            total = sum(float(self._losses(of, hidden, others).sum()) for of, hidden, others, _ in parts)
        return total / float(self._weight[members].sum())

    def _all_logits(self) -> tuple[FloatArray, FloatArray]:
        members = np.arange(len(self._task.rows))
        logits = np.empty((len(members), len(self._ids)), dtype=np.float32)
        largest = np.empty(len(members), dtype=np.float32)
        with self._torch.no_grad():
            for of, hidden, _, most in self._states(members):
                logits[of], largest[of] = (hidden @ self._rows.T).numpy(), most.numpy()
        return logits, largest

    def _arrays(self, best: list[Any], optimizer: Any) -> dict[str, NDArray[Any]]:
        """Return all that the rest of the training depends on."""
        found: dict[str, NDArray[Any]] = {}
        for index, (weight, kept) in enumerate(zip(self._trained(), best, strict=True)):
            found[f"weights.{index}"] = weight.detach().cpu().numpy()
            found[f"best.{index}"] = kept.cpu().numpy()
            for key, value in optimizer.state[weight].items():
                # A step count has no dimension, which the file format does not know.
                found[f"adam.{index}.{key}"] = np.atleast_1d(value.cpu().numpy())
        return found

    def _restore(
        self, checkpoint: Checkpoint, saved: tuple[dict[str, Any], Mapping[str, Any]], optimizer: Any, schedule: Any
    ) -> tuple[list[dict[str, float]], list[Any]]:
        """Put back what an interrupted training had reached; return its epochs and best values."""
        torch, (state, tensors) = self._torch, saved
        try:
            epochs = [dict(report) for report in state["epochs"]]
            self._stopping.best_loss, self._stopping.best_epoch = float(state["best_loss"]), int(state["best_epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"{checkpoint.folder}/checkpoint.json holds no state of a causal_llm training ({error!r})"
            ) from error
        # A step of zeros at no rate makes the optimizer's state, so that there is something to compare with.
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        for weight in self._trained():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        optimizer.zero_grad()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        expected = self._arrays(self._copy(), optimizer)
        found = {name: checkpoint.tensor(tensors, name, like) for name, like in expected.items()}
        with torch.no_grad():
            for index, weight in enumerate(self._trained()):
                weight.copy_(torch.from_numpy(found[f"weights.{index}"]))
                for key, value in optimizer.state[weight].items():
                    value.copy_(torch.from_numpy(found[f"adam.{index}.{key}"]).reshape(value.shape))
        for _ in range(len(epochs) * -(-len(self._train) // self._config.batch_size)):
            schedule.step()
        return epochs, [torch.from_numpy(found[f"best.{index}"]) for index in range(len(self._trained()))]

    def _copy(self) -> list[Any]:
        return [parameter.detach().clone() for parameter in self._trained()]

    def _put_back(self, values: list[Any]) -> None:
        with self._torch.no_grad():
            for parameter, value in zip(self._trained(), values, strict=True):
                parameter.copy_(value)

    def _show(self, text: str, done: int, total: int) -> None:
        self._on_step(text, min(done, total), total)

    def _read(self, module: Any, row: Sequence[int]) -> tuple[Any, Any, Any]:
        """Return the last position's state before the output layer, and what `_states` yields of the other tokens."""
        torch = self._torch
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
        torch = self._torch
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

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        states = []
        with self._torch.no_grad():
            for index, row in enumerate(self._task.rows):
                states.append(self._read(self._module, row))
                self._on_step("reading prompts", index + 1, len(self._task.rows))
        self._known = tuple(self._torch.cat(parts) for parts in zip(*states, strict=True))

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

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
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

    def _trained(self) -> list[Any]:
        return [self._rows, *(weight for weight in self._adapted.parameters() if weight.requires_grad)]

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

    def _finished(self) -> Any:
        return self._adapted.merge_and_unload()


@contextmanager
def _input_of(layer: Any) -> Iterator[list[Any]]:
    seen: list[Any] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
