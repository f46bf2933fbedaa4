"""A causal language model: one pass against the generation that RouteLLM lets it do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.harness.figures import ratios
from benchmarks.harness.turns import time_items
from benchmarks.transformers.names import CACHED, NO_PREFIX, PREFILL, UNCACHED
from routellm_fast.routers import CausalLLMRouter

# RouteLLM's own.
_NEW_TOKENS: Final = 6


def measure(router: CausalLLMRouter, prompts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Time prompts one by one, in turns.

    RouteLLM's class moves its model to a GPU and cannot run here: `generate` is called as it does, on the same model
    in the same type, without a header and for six tokens; with a cache too, which RouteLLM's configuration turns off.

    Args:
        router: One pass; its model is what generates.
        prompts: Natural ones; a round is one pass over all.
        rounds: How often.
    """
    import torch

    torch.set_num_threads(1)
    model = router.model

    def generate(prompt: str, *, use_cache: bool) -> Any:
        ids = torch.tensor([_without_header(router, prompt)])
        with torch.inference_mode():
            return model.module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
                use_cache=use_cache,
                output_scores=True,
                return_dict_in_generate=True,
            )

    def whole_pass(prompt: str) -> float:
        _, logits = model.read(router.rows([prompt]), last=1, columns=router.score_ids)
        odds = np.exp(logits[0].astype(np.float64) - logits[0].max())
        return float(odds[: router.scoring.score_threshold - 1].sum() / odds.sum())

    contenders: dict[str, Callable[[str], Any]] = {
        PREFILL: router.win_rate,
        NO_PREFIX: whole_pass,
        UNCACHED: lambda prompt: generate(prompt, use_cache=False),
        CACHED: lambda prompt: generate(prompt, use_cache=True),
    }
    router.win_rate(prompts[0])  # the prefix is read once
    times = time_items(contenders, prompts, rounds=rounds, stretch=1, lead_in=0)
    found = {prompt: router.win_rate(prompt) for prompt in prompts}
    scored = [prompt for prompt, win_rate in found.items() if win_rate < 1.0]
    differences = [abs(found[prompt] - whole_pass(prompt)) for prompt in scored]
    return {
        "model": model.type_name,
        "parameters": model.parameter_count,
        "prompts": len(prompts),
        "rounds": rounds,
        "prompt_tokens": float(np.median([len(row) for row in router.rows(list(prompts))])),
        "ms": {name: float(np.median(taken)) / 1e6 for name, taken in times.items()},
        "ratio": ratios(times, PREFILL),
        "unscored": len(prompts) - len(scored),
        "max_difference_to_whole_pass": max(differences, default=0.0),
    }


def _without_header(router: CausalLLMRouter, prompt: str) -> list[int]:
    row = router.rows([prompt])[0]
    header = router.prompt_format.header
    count = len(router.model.tokens.encode(header, add_special_tokens=False)[0]) if header else 0
    return row[: len(row) - count]
