"""Vectors by text-embedding-3-small: those that were published, and those that have to be bought."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from recipes.paper.hub import BattleData, fetched
from routellm_fast.data import read_battles, routellm_datasets
from routellm_fast.embedders import CachedEmbedder, OpenAIEmbedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.tables import LeftOut
from routellm_fast.training.similarity_weighted import check_rows

MODEL: Final = "text-embedding-3-small"
# OpenAI's list price, $0.02 a million tokens: the paper's table 7 rests on it too.
USD_PER_TOKEN: Final = 0.02e-6
# Of English text. A token of OpenAI's is one byte at least, which bounds what any text can cost.
BYTES_PER_TOKEN: Final = 4
_BATCH: Final = 1024


class Cost(NamedTuple):
    """What it costs to embed texts.

    Attributes:
        texts: How many are sent.
        text_bytes: Their length in UTF-8.
    """

    texts: int
    text_bytes: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> Cost:
        """Return the cost of texts that are all sent."""
        return cls(len(texts), sum(len(text.encode("utf-8", "surrogatepass")) for text in texts))

    @property
    def about_usd(self) -> float:
        """US dollars at the usual length of a token."""
        return self.text_bytes / BYTES_PER_TOKEN * USD_PER_TOKEN

    @property
    def at_most_usd(self) -> float:
        """US dollars if every byte were a token."""
        return self.text_bytes * USD_PER_TOKEN

    def __str__(self) -> str:
        """Texts, about how many tokens, and both prices."""
        return (
            f"{self.texts:,} texts, about {self.text_bytes // BYTES_PER_TOKEN:,} tokens: about ${self.about_usd:.4f}, "
            f"${self.at_most_usd:.4f} at most"
        )


# The prompts of MMLU, GSM8K and MT-Bench, each once: they have no published vectors.
BENCHMARKS_COST: Final = Cost(15_311, 6_865_863)


def keep_published(cache: CachedEmbedder, source: BattleData, data: Path) -> None:
    """Put the published vectors of battles into a cache, so that nobody pays for them again.

    Raises:
        DataError: There are more or fewer vectors than battles, or a file is damaged.
        InvalidEmbeddingError: The vectors have another length than the model's.
    """
    battles, vectors = fetched(source.battles, data), fetched(source.vectors, data)
    prompts = [battle.prompt for battle in routellm_datasets.read_battles(battles)]
    if all(cache.holds(prompts)):
        return
    found = routellm_datasets.read_embeddings([vectors])
    check_rows(len(found), len(prompts))
    cache.keep(prompts, found)


def prompts_of(battles: Iterable[Path]) -> Iterator[str]:
    """Yield the prompts that mf is trained on: those of battles that somebody won. Raises DataError."""
    for path in battles:
        for battle in read_battles(path, min_prompt_chars=routellm_datasets.MIN_PROMPT_CHARS, left_out=LeftOut()):
            yield battle.prompt


def buy(cache: CachedEmbedder, texts: Iterable[str], *, max_cost_usd: float, say: Callable[[str], None]) -> Cost:
    """Embed what the cache does not hold, after saying what that costs. Return the cost.

    Args:
        cache: Around the embedder that is paid for.
        texts: What is needed; equal ones count once.
        max_cost_usd: Send nothing if it may cost more US dollars.
        say: Takes lines about the cost and the progress.

    Raises:
        InvalidArgumentError: It may cost more than max_cost_usd; nothing was sent.
        EmbedderUnavailableError: There is no key, or the server refuses or cannot be reached. What it answered before
            is kept.
    """
    distinct = list(dict.fromkeys(texts))
    missing = [text for text, is_held in zip(distinct, cache.holds(distinct), strict=True) if not is_held]
    cost = Cost.of(missing)
    server = cache.embedder.server if isinstance(cache.embedder, OpenAIEmbedder) else cache.name
    say(f"{MODEL} at {server} is asked for {cost}; the cap is ${max_cost_usd:g}. {len(distinct):,} are needed")
    if cost.at_most_usd > max_cost_usd:
        raise InvalidArgumentError(
            f"vectors of {cost} may cost more than --max-cost-usd {max_cost_usd:g}: nothing was sent. Raise it, or "
            "train without them by --embedder static"
        )
    for start in range(0, len(missing), _BATCH):
        cache.embed(missing[start : start + _BATCH])
        say(f"{min(start + _BATCH, len(missing)):,} of {len(missing):,} texts embedded")
    return cost
