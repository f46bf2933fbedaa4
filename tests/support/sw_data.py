"""Battles for tests and benchmarks of sw_ranking: synthetic embeddings, real ones, and who won.

All is deterministic: equal arguments give equal arrays on one machine, and the first rows of a larger bank are those of
a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from routellm_fast.tables import read_table

BLOCK = 4096
TOKEN_COLUMNS = 256  # of the embedder that ships: the rest are surface features

# Parts of a row's squared length, see openai_like_blocks.
_MEAN, _TOPIC, _LATENT, _NOISE = 0.20, 0.20, 0.45, 0.15
_TOPICS = 400
_LATENT_DIM = 256


class Battles(NamedTuple):
    """n battles, as SimilarityWeightedRouter.build takes them."""

    model_a: list[str]
    model_b: list[str]
    winner: list[str]


def openai_like_blocks(count: int, dim: int = 1536, seed: int = 0, *, stream: int = 0) -> Iterator[np.ndarray]:
    """Yield count float32 unit rows, at most BLOCK at a time, with the shape of text-embedding-3-small's vectors.

    A row's squared length is made of four parts:

    * 20 % a direction common to all: two unrelated texts have a cosine of about 0.2;
    * 20 % one of 400 topics, whose sizes fall as 1 / rank: a few broad topics and a long tail, cosine 0.4 within one;
    * 45 % the text itself in 256 latent directions, of variance 1 / (8 + k): a decaying spectrum, so that projections
      to fewer dimensions and clusters find what they find on real text. Topics are drawn with the same spectrum;
    * 15 % noise in all dimensions: the tail that no projection catches.

    The latent directions weigh leading coordinates more (as 1 / (1 + 3 j / dim)), as Matryoshka training does. One row
    in ten repeats an earlier row of its block with a little noise (cosine 0.9 and more), one in twenty repeats it
    exactly: prompts are sent twice, and a prompt has several battles.

    Args:
        count: Number of rows.
        dim: Their length.
        seed: Of everything; equal seeds share topics and directions.
        stream: Rows of another stream are other rows from the same source.
    """
    latent = min(_LATENT_DIM, dim)
    world = np.random.default_rng([seed, dim])
    scale = np.sqrt(1.0 / (8.0 + np.arange(latent)))
    scale /= np.linalg.norm(scale)
    profile = np.sqrt(1.0 / (1.0 + 3.0 * np.arange(dim) / dim))
    directions = (world.normal(size=(latent, dim)) * profile / np.linalg.norm(profile)).astype(np.float32)
    mean = _unit(world.normal(size=dim) * profile)
    centres = _unit(world.normal(size=(_TOPICS, latent)) * scale)
    sizes = 1.0 / np.arange(1.0, _TOPICS + 1.0)
    for index in range(-(-count // BLOCK)):
        # Whole blocks are drawn, also where fewer rows are wanted: the rows do not depend on count.
        rng = np.random.default_rng([seed, dim, stream, index])
        topic = rng.choice(_TOPICS, size=BLOCK, p=sizes / sizes.sum())
        own = rng.standard_normal((BLOCK, latent), np.float32) * scale.astype(np.float32)
        coordinates = np.sqrt(_TOPIC) * centres[topic].astype(np.float32) + np.float32(np.sqrt(_LATENT)) * own
        rows = coordinates @ directions
        rows += np.float32(np.sqrt(_MEAN)) * mean
        rows += np.float32(np.sqrt(_NOISE / dim)) * rng.standard_normal((BLOCK, dim), np.float32)
        kind = rng.random(BLOCK)
        kind[0] = 1.0
        source = (rng.random(BLOCK) * np.arange(BLOCK)).astype(np.int64)
        for row in np.flatnonzero(kind < 0.15):
            rows[row] = rows[source[row]]
            if kind[row] < 0.10:
                rows[row] += _noise(rng, dim, rows[row])
        yield _unit(rows)[: count - index * BLOCK]


def openai_like(count: int, dim: int = 1536, seed: int = 0, *, stream: int = 0) -> np.ndarray:
    """(count, dim) float32; see openai_like_blocks."""
    rows = np.empty((count, dim), np.float32)
    for index, block in enumerate(openai_like_blocks(count, dim, seed, stream=stream)):
        rows[index * BLOCK : index * BLOCK + len(block)] = block
    return rows


def openai_like_queries(bank: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(count, dim) float32 queries to a bank made by openai_like with this seed: a quarter resembles its rows."""
    return with_near_duplicates(openai_like(count, bank.shape[1], seed, stream=1), bank, seed)


def with_near_duplicates(fresh: np.ndarray, bank: np.ndarray, seed: int = 0) -> np.ndarray:
    """Replace every fourth query by a row of the bank with a little noise; lengths are left as they come out."""
    rng = np.random.default_rng([seed, 2])
    queries = fresh.copy()
    for row in range(0, len(queries), 4):
        near = bank[rng.integers(len(bank))]
        queries[row] = near + _noise(rng, bank.shape[1], near)
    return queries


def battles_for(embeddings: np.ndarray, models: int = 64, seed: int = 0) -> Battles:
    """Let models meet on the embedded prompts, as on an arena.

    Skills spread by 130 Elo; four directions of the embedding space, through rows of the bank, add or take up to about
    as much from each model by topic. A model appears about as 1 / (3 + its popularity's rank). Ties are about 30 %,
    more among equals (Davidson's model). Embeddings of one block are read at a time.
    """
    rng = np.random.default_rng([seed, models])
    skill = rng.normal(scale=130.0 / 400.0, size=models)
    loading = rng.normal(scale=60.0 / 400.0, size=(models, 4))
    popularity = rng.permutation(1.0 / (3.0 + np.arange(models)))
    chance = popularity / popularity.sum()
    count = len(embeddings)
    anchors = _unit(np.array(embeddings[rng.integers(count, size=4)], np.float32))
    model_a = np.empty(count, np.int64)
    model_b = np.empty(count, np.int64)
    winner = np.empty(count, np.int64)
    for begin in range(0, count, BLOCK):
        block = _unit(np.array(embeddings[begin : begin + BLOCK], np.float32))
        draws = np.random.default_rng([seed, models, begin])
        affinity = block @ anchors.T
        # Centred and scaled by what holds for any text embedding, not by the block: blocks must not differ.
        affinity = np.clip((affinity - 0.25) / 0.15, -3.0, 3.0)
        a = draws.choice(models, size=BLOCK, p=chance)[: len(block)]
        b = draws.choice(models, size=BLOCK, p=chance)[: len(block)]
        same = a == b
        b[same] = (a[same] + draws.integers(1, models, size=BLOCK)[: len(block)][same]) % models
        gap = skill[a] - skill[b] + ((loading[a] - loading[b]) * affinity).sum(axis=1)
        odds = np.stack([10.0 ** (gap / 2.0), 10.0 ** (-gap / 2.0), np.full(len(block), 0.95)])
        reached = np.cumsum(odds / odds.sum(axis=0), axis=0)
        outcome = (draws.random(BLOCK)[: len(block)] > reached[:2]).sum(axis=0)
        rows = slice(begin, begin + len(block))
        model_a[rows], model_b[rows], winner[rows] = a, b, outcome
    names = [f"model-{i:02}" for i in range(models)]
    outcomes = ("model_a", "model_b", "tie")
    return Battles([names[i] for i in model_a], [names[i] for i in model_b], [outcomes[i] for i in winner])


def real_texts(shared_data: Path, count: int) -> list[str]:
    """Distinct real texts: prompts and questions as they are first, then windows of the long ones.

    A window is 32 words and begins every 8th word, so that neighbours overlap as a user's edited prompts do.

    Raises:
        ValueError: The data do not hold that many.
    """
    tables = {
        shared_data / "prompts" / "natural_prompts.csv.gz": "prompt",
        shared_data / "train" / "prompts.csv.gz": "prompt",
        shared_data / "train" / "golden_mmlu_pro.csv.gz": "question",
        shared_data / "train" / "golden_routerbench.csv.gz": "prompt",
        shared_data / "train" / "golden_llmrouter.csv.gz": "prompt",
    }
    whole = [row.text(column) for path, column in tables.items() for row in read_table(path)]
    found = dict.fromkeys(text for text in whole if text.strip())
    for text in list(found):
        words = text.split()
        for begin in range(0, len(words) - 32, 8):
            if len(found) >= count:
                break
            found.setdefault(" ".join(words[begin : begin + 32]))
    if len(found) < count:
        raise ValueError(f"{shared_data} holds {len(found)} texts, not {count}")
    return list(found)[:count]


def real_embeddings(shared_data: Path, count: int) -> np.ndarray:
    """(count, 256) float32: real texts by the static embedder that ships, its token part only, none of them zero."""
    import routellm_fast as rf

    texts = real_texts(shared_data, count + count // 100 + 100)
    rows = rf.load_router().embedder.embed(texts)[:, :TOKEN_COLUMNS]
    kept = np.flatnonzero(np.abs(rows).max(axis=1) > 0)[:count]
    if len(kept) < count:
        raise ValueError(f"only {len(kept)} texts have a vector, not {count}")
    return np.ascontiguousarray(rows[kept])


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("...i,...i->...", rows, rows))[..., None]
    return (rows / lengths).astype(np.float32, copy=False)


def _noise(rng: np.random.Generator, dim: int, row: np.ndarray) -> np.ndarray:
    """Between none and 0.45 of the row's length: cosines from 0.91 to almost 1."""
    share = rng.random() * 0.45 * np.linalg.norm(row) / np.sqrt(dim)
    return np.float32(share) * rng.standard_normal(dim, np.float32)
