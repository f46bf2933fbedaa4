from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import routellm_fast as rf
from routellm_fast import _core

DIM = 3
# Any text that Python can hold: lone surrogates, NUL and the empty text too.
any_text = st.text(st.characters(exclude_categories=()), max_size=20)


class Numbering:
    """An embedder that gives every text a number of its own."""

    name = "numbering"
    dim = DIM
    fingerprint = "sha256:numbering"

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.batches: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(texts))
        return self.expected(texts)

    def expected(self, texts: Sequence[str]) -> np.ndarray:
        rows = [self.numbers.setdefault(text, len(self.numbers)) for text in texts]
        return np.array(rows, np.float32)[:, None] + np.zeros((len(texts), DIM), np.float32)


@given(st.lists(st.lists(any_text, max_size=12), max_size=6), st.integers(0, 4000))
def test_a_cached_answer_is_the_plain_answer_whatever_was_asked_before(batches: list[list[str]], capacity: int) -> None:
    model = Numbering()
    cached = rf.CachedEmbedder(model, capacity)
    for batch in batches:
        assert np.array_equal(cached.embed(batch), model.expected(batch))
        stats = cached.stats
        assert stats.bytes_used <= capacity
    assert stats_add_up(cached, batches)
    for asked in model.batches:
        assert asked
        assert len(set(asked)) == len(asked)


def stats_add_up(cached: rf.CachedEmbedder, batches: list[list[str]]) -> bool:
    stats = cached.stats
    texts = sum(map(len, batches))
    return stats.hits + stats.store_hits + stats.misses == texts and stats.entries + stats.evictions <= stats.embedded


@given(st.lists(any_text, max_size=30))
def test_with_room_for_all_each_text_is_embedded_once(texts: list[str]) -> None:
    model = Numbering()
    cached = rf.CachedEmbedder(model)
    for text in texts:
        cached.embed([text])
    cached.embed(texts)
    asked = [text for batch in model.batches for text in batch]
    assert sorted(asked) == sorted(set(texts))
    assert cached.stats.embedded == cached.stats.entries == len(set(texts))


@given(st.integers(1, 2000), st.integers(0, 300_000), st.integers(1, 32), st.integers(1, 200))
@settings(max_examples=60)
def test_bytes_never_exceed_the_capacity(dim: int, capacity: int, shards: int, count: int) -> None:
    cache = _core.EmbeddingCache(dim, capacity, shards)
    keys = np.random.default_rng(count).bytes(16 * count)
    rows = np.arange(count * dim, dtype=np.float32).reshape(count, dim)
    cache.put_many(keys, rows)
    assert cache.bytes_used <= capacity
    assert len(cache) * (4 * dim + 16) <= cache.bytes_used
    out = np.zeros_like(rows)
    hit = cache.get_many(keys, out)
    assert hit.sum() == len(cache)
    assert np.array_equal(out[hit], rows[hit])
    assert not out[~hit].any()


class OneShard(RuleBasedStateMachine):
    """A cache of one shard behaves as an ordered dict of a fixed length."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = _core.EmbeddingCache(DIM, 1200, 1)
        self.model: OrderedDict[int, float] = OrderedDict()
        probe = _core.EmbeddingCache(DIM, 1200, 1)
        probe.put_many(np.arange(4000, dtype=np.uint64).tobytes(), np.zeros((2000, DIM), np.float32))
        self.room = len(probe)

    @staticmethod
    def key(number: int) -> bytes:
        return np.array([number, 0], np.uint64).tobytes()

    @rule(number=st.integers(0, 40), value=st.floats(width=32, allow_nan=False))
    def put(self, number: int, value: float) -> None:
        self.cache.put_many(self.key(number), np.full((1, DIM), value, np.float32))
        self.model[number] = value
        self.model.move_to_end(number)
        if len(self.model) > self.room:
            self.model.popitem(last=False)

    @rule(numbers=st.lists(st.integers(0, 40), max_size=5))
    def get(self, numbers: list[int]) -> None:
        out = np.full((len(numbers), DIM), -1, np.float32)
        hit = self.cache.get_many(b"".join(map(self.key, numbers)), out)
        for number, found, row in zip(numbers, hit, out, strict=True):
            assert found == (number in self.model)
            if found:
                assert (row == np.float32(self.model[number])).all()
                self.model.move_to_end(number)
            else:
                assert (row == -1).all()

    @invariant()
    def same_size(self) -> None:
        assert len(self.cache) == len(self.model)
        assert self.cache.bytes_used <= 1200


TestOneShard = OneShard.TestCase
