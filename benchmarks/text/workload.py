"""Texts of a given length, and the threshold that prompts are routed by."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import routellm_fast as rf


def texts_of_length(length: int, count: int, prompts: Sequence[str]) -> list[str]:
    """Return `count` different ASCII texts of exactly `length` characters, made of prompts joined by spaces."""
    ascii_prompts = [prompt for prompt in prompts if prompt.isascii() and prompt]
    texts = []
    for index in range(count):
        first = index * len(ascii_prompts) // count
        parts, size = [], 0
        for prompt in itertools.islice(itertools.cycle(ascii_prompts), first, None):
            parts.append(prompt)
            size += len(prompt) + 1
            if size > length:
                break
        texts.append(" ".join(parts)[:length])
    return texts


def decision_threshold(router: rf.Router) -> float:
    """Return the threshold that sends half of the calibration prompts to the strong model; 0.5 without calibration."""
    return 0.5 if router.calibration is None else router.threshold_for(strong_share=0.5)
