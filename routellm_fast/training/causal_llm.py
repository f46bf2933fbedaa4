"""Fine-tune a causal language model as a `causal_llm` router."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.routers.causal.model import LanguageModel
from routellm_fast.routers.causal.prompt import SCORE_TOKENS, PromptFormat
from routellm_fast.routers.causal.router import CausalLLMRouter, scoring_for
from routellm_fast.routers.causal.scorer import PrefillScorer, Scoring
from routellm_fast.training._causal_run import Task, fit
from routellm_fast.training.configs import CausalLLMConfig
from routellm_fast.training.deterministic import deterministic
from routellm_fast.training.pair_data import PairData
from routellm_fast.training.progress import OnProgress, ignore_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Upper borders of the strong model's lead, a share of the largest lead, for the scores 2 and 3; above them it is 1.
_LEADS: Final = (2 / 3, 1 / 3)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedCausalLLM:
    """What CausalLLMRouter takes, and how it came about.

    Attributes:
        model: The fine-tuned model.
        prompt_format: The text around a question.
        scoring: The rules.
        metrics: JSON-able: counts, config, losses by epoch, unscored prompts, and held-out results by source.
        win_rates: (prompts,) float32, of the battles' prompts.
    """

    model: LanguageModel
    prompt_format: PromptFormat
    scoring: Scoring
    metrics: Mapping[str, Any] = field(default_factory=dict)
    win_rates: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False)

    def router(self, *, model_pair: ModelPair, **common: Any) -> CausalLLMRouter:
        """Return the router; see CausalLLMRouter for the arguments."""
        return CausalLLMRouter(
            self.model, prompt_format=self.prompt_format, scoring=self.scoring, model_pair=model_pair, **common
        )


def train(
    battles: Battles,
    base: LanguageModel,
    prompt_format: PromptFormat,
    config: CausalLLMConfig | None = None,
    *,
    strong_models: frozenset[str],
    checkpoint: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedCausalLLM:
    """Fine-tune a language model to score how well the weak model would do.

    A prompt's scores are those of its battles (`scores_of`), by weight. Their cross entropy over the whole vocabulary
    is minimised, so that a score is also the likeliest token, and the epoch with the least on held-out prompt groups
    is kept. The same battles, base, config and torch give the same router on one machine.

    Args:
        battles: Each between a strong model and another.
        base: The model, in float32; it stays as it is.
        prompt_format: The text around a question; it becomes part of the router.
        config: None for our own settings.
        strong_models: Which models of the battles are strong.
        checkpoint: A directory in which the state is kept after each epoch. Where there is one of the same training,
            that goes on from it, to the same bytes.
        on_progress: Called as the work goes on.

    Raises:
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: The checkpoint is damaged or cannot be written.
        InvalidArgumentError: Nothing is left on one side of the split, the training diverged, or the base does not fit.
        MissingExtraError: torch, transformers, or for method lora peft, is not installed.
    """
    config = config or CausalLLMConfig()
    torch = require("torch", "transformers")
    if config.method == "lora":
        require("peft", "lora")  # before the work begins
    if base.dtype != "float32":
        raise InvalidArgumentError(
            f"the base must be in float32 to be trained, found {base.dtype}: load it with dtype='float32'"
        )
    pair = PairData.of(battles, strong_models, config.held_out_share, seed=config.seed)
    model = with_score_tokens(base)
    scoring = scoring_for(model, max_tokens=config.max_tokens, truncation=config.truncation)
    scorer = PrefillScorer(model, prompt_format, scoring)
    with deterministic(torch, config.threads):
        task = Task(
            rows=scorer.rows(battles.prompts),
            scores=pair.prompt_means(np.eye(len(SCORE_TOKENS))[scores_of(pair.strong_share()) - 1]),
            weight=pair.prompt_weights(),
            held_out=pair.prompts_out(),
        )
        tuned = fit(
            model.module,
            scorer.score_ids,
            task,
            config,
            on_progress or ignore_progress,
            None if checkpoint is None else Path(checkpoint),
        )
    wide = tuned.logits.astype(np.float64)
    odds = np.exp(wide - wide.max(1, keepdims=True))
    probabilities = odds / odds.sum(1, keepdims=True)
    better = probabilities[:, : scoring.score_threshold - 1].sum(1)
    win_rates = np.where(tuned.is_scored, np.minimum(better, 1.0), 1.0).astype(np.float32)
    share = probabilities[:, :3].sum(1) + probabilities[:, 3] / 2.0  # a tie is score 4
    metrics = {
        **pair.counts(),
        "config": asdict(config),
        "epochs": tuned.fitted.epochs,
        "best_epoch": tuned.fitted.best_epoch,
        "unscored_prompts": int((~tuned.is_scored).sum()),
        "held_out_by_source": pair.results(share),
        "verdict": pair.verdict(win_rates, share).to_json(),
    }
    trained = LanguageModel(tuned.module.eval(), model.tokenizer, reference=None)
    return TrainedCausalLLM(trained, prompt_format, scoring, metrics, win_rates)


def scores_of(target: NDArray[Any]) -> NDArray[np.int64]:
    """Return the score, from 1 to 5, of (n,) shares of the strong model's wins.

    5 where the weak model's answer is better, 4 where both are as good: from RouteLLM's threshold on the weak model
    will do. 3, 2 and 1 by the strong model's lead, in thirds of the largest; a win without a measure of it is a whole
    one.
    """
    lead = 2.0 * np.asarray(target, dtype=np.float64) - 1.0
    scores: NDArray[np.int64] = np.select([lead < 0, lead == 0, lead <= _LEADS[1], lead <= _LEADS[0]], [5, 4, 3, 2], 1)
    return scores


def with_score_tokens(base: LanguageModel) -> LanguageModel:
    """Return a copy of a model that has the score tokens, with rows for them."""
    tokenizer = type(base.tokenizer).from_str(base.tokenizer.to_str())
    tokenizer.add_special_tokens([token for token in SCORE_TOKENS if tokenizer.token_to_id(token) is None])
    module = copy.deepcopy(base.module)
    rows = max(tokenizer.get_vocab_size(), 1 + max(tokenizer.token_to_id(token) for token in SCORE_TOKENS))
    if rows > base.output_rows:
        torch = require("torch", "transformers")
        with torch.random.fork_rng(devices=[]):  # new rows hold random numbers until they are trained
            torch.manual_seed(0)
            module.resize_token_embeddings(rows, mean_resizing=False)
    return LanguageModel(module, tokenizer, reference=None)
