"""How the number of texts in a request falls and recovers."""

from __future__ import annotations

import pytest

import routellm_fast as rf
from routellm_fast.embedders._openai_batches import BatchLimit
from tests.support.fake_openai import FakeOpenAI, Reply


def test_a_refusal_lowers_it_and_successes_raise_it_again() -> None:
    limit = BatchLimit(256)
    limit.refused(32)
    assert limit.most_texts == 32
    for expected in (64, 128, 256):
        for _ in range(31):
            limit.took(limit.most_texts)
        assert limit.most_texts == expected // 2
        limit.took(limit.most_texts)
        assert limit.most_texts == expected


def test_small_requests_say_nothing_about_larger_ones() -> None:
    limit = BatchLimit(256)
    limit.refused(32)
    for _ in range(10_000):
        limit.took(31)
    assert limit.most_texts == 32


def test_a_server_with_a_lasting_limit_refuses_ever_more_rarely() -> None:
    limit, refusals = BatchLimit(256), 0
    for _ in range(100_000):
        if limit.most_texts > 32:
            refusals += 1
            limit.refused(32)
        limit.took(min(32, limit.most_texts))
    assert 5 < refusals < 40


def test_several_refusals_of_one_size_are_one() -> None:
    limit = BatchLimit(256)
    for _ in range(20):
        limit.refused(32)
    for _ in range(32):
        limit.took(32)
    assert limit.most_texts == 64


@pytest.mark.parametrize("max_texts", [64, 2])
def test_an_embedder_recovers_from_a_passing_refusal(max_texts: int) -> None:
    """The server is busy once; later it takes what it took before."""
    with FakeOpenAI() as server:
        server.script.append(Reply(413, body={"error": {"message": f"batch too large, at most {max_texts // 2}"}}))
        with rf.OpenAIEmbedder("m", base_url=server.url, dim=8, batch_size=max_texts) as embedder:
            texts = [f"text {k}" for k in range(max_texts * 20)]
            embedder.embed(texts)
            sizes = [len(request.body["input"]) for request in server.requests]
    assert sizes[1] == max_texts // 2
    assert sizes[-1] == max_texts
