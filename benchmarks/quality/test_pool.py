from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import pool
from routellm_fast.data import Labelled
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.routers import RandomRouter
from routellm_fast.routers.loading import SHIPPED_ROUTER

SIZES = {"large-70b": 0.9, "middle-7b": 0.6, "unsized": 0.7, "small-2b": 0.3}


def table(count: int = 120, seed: int = 0) -> list[Labelled]:
    generator = np.random.default_rng(seed)
    return [
        Labelled(
            f"question {i} " + "word " * int(generator.integers(20)),
            f"group {i // 2}",
            "table",
            {name: float(generator.random() < rate) for name, rate in SIZES.items() if name != "unsized" or i % 3},
        )
        for i in range(count)
    ]


def test_no_group_is_on_both_sides() -> None:
    seen, unseen = pool.split(table(), 0.3, 0)
    assert len(seen) + len(unseen) == 120
    assert not {row.group for row in seen} & {row.group for row in unseen}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama-3.1-8b-instruct", 8.0),
        ("mixtral-8x7b-v0.1", 12.9),
        ("llama-3.1-nemotron-51b-instruct", 51.0),
        ("gpt-4o-early", None),
        ("phi-3.8b", 3.8),
    ],
)
def test_a_size_is_read_off_the_name(name: str, size: float | None) -> None:
    assert pool.billions(name) == size


def test_pools_are_trained_and_evaluated_on_different_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONFIG", replace(pool.CONFIG, max_epochs=1, d=8))
    results, training = pool.evaluate_pools({"tiny": table()}, StaticEmbedder.load(SHIPPED_ROUTER))
    everyone = results["tiny"]["all models"]
    # "unsized" ran on two prompts of three only, and its name holds no size.
    assert [model.name for model in everyone.models] == ["small-2b", "middle-7b", "large-70b"]
    assert everyone.prompts == len(pool.split(table(), pool.HELD_OUT_SHARE, 0)[1])
    assert training["models"] == 4
    text = pool.pool_markdown(results)
    assert "## tiny, all models" in text
    assert "by number of parameters" in text


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pool.main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_router_must_say_what_was_held_out() -> None:
    with pytest.raises(DataError, match="held_out_share"):
        pool.evaluate_transfer({}, RandomRouter(PAPER_PAIR))
