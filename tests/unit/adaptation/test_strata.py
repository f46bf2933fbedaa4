from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.adaptation.strata import KINDS, LENGTHS, SCRIPTS, kinds_of, script_of, strata_of
from routellm_fast.errors import InvalidEmbeddingError


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello", "latin"),
        ("\u00fcber die Br\u00fccke", "latin"),
        ("12 * 7 = ?", "none"),
        ("", "none"),
        ("\U0001f600\u2026", "none"),
        ("\u03b3\u03b5\u03b9\u03ac", "greek"),
        ("\u041f\u0440\u0438\u0432\u0435\u0442, Bob", "cyrillic"),
        ("\u05e9\u05dc\u05d5\u05dd", "hebrew"),
        ("\u0645\u0631\u062d\u0628\u0627", "arabic"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "indic"),
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "thai"),
        ("\uc548\ub155\ud558\uc138\uc694", "hangul"),
        ("\u4f60\u597d\uff0c\u4e16\u754c", "chinese"),
        ("\u65e5\u672c\u8a9e\u3067\u8a71\u3059", "japanese"),
        ("\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0", "other"),
        ("\ud800 lone", "latin"),
        ("Translate to English: \u4f60\u597d", "latin"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert SCRIPTS[script_of(text)] == script


def made(count: int, seed: int = 0, dim: int = 8) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    vectors = centres[rng.integers(5, size=count)] + 0.3 * rng.normal(size=(count, dim))
    return [f"{i:032x}" for i in range(count)], vectors.astype(np.float32)


def test_kinds_are_the_clusters_of_directions() -> None:
    names, vectors = made(600)
    rows = np.arange(600)
    kind = kinds_of(names, vectors, rows, seed=0)
    assert set(kind.tolist()) <= set(range(KINDS))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def within(labels: np.ndarray) -> float:
        """Mean cosine to the mean direction of the own cluster."""
        sums = np.array([np.linalg.norm(unit[labels == k].sum(axis=0)) for k in range(KINDS)])
        return float(sums.sum() / len(unit))

    assert within(kind) > 0.93 > 0.6 > within(np.random.default_rng(0).permutation(kind))
    # Each request is in the cluster whose members are nearest on the whole: but for the last step, a fixed point.
    there = np.unique(kind)
    means = np.array([unit[kind == k].sum(axis=0) for k in there])
    nearest = there[(unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(axis=1)]
    assert (nearest == kind).mean() > 0.85
    np.testing.assert_array_equal(kind, kinds_of(names, vectors * np.float32(8.0), rows, seed=0))
    assert (kind != kinds_of(names, vectors, rows, seed=1)).any()
    assert set(kinds_of(names, vectors, rows, seed=0, kinds=3).tolist()) <= {0, 1, 2}


def test_rows_say_whose_vector_is_whose() -> None:
    names, vectors = made(50)
    mixed = np.random.default_rng(1).permutation(50)
    moved = np.empty_like(vectors)
    moved[mixed] = vectors
    np.testing.assert_array_equal(
        kinds_of(names, vectors, np.arange(50), seed=0), kinds_of(names, moved, mixed, seed=0)
    )


def test_prompts_without_known_words_are_a_kind_of_their_own() -> None:
    names, vectors = made(40)
    vectors[[3, 9]] = 0.0
    kind = kinds_of(names, vectors, np.arange(40), seed=0)
    assert np.flatnonzero(kind == KINDS).tolist() == [3, 9]
    assert kinds_of(names, np.zeros_like(vectors), np.arange(40), seed=0).tolist() == [KINDS] * 40
    # All alike: one kind, and no division by nothing.
    assert len(set(kinds_of(names, np.ones_like(vectors), np.arange(40), seed=0).tolist())) == 1
    opposite = np.where(np.arange(40)[:, None] % 2, vectors[:1], -vectors[:1])
    assert len(set(kinds_of(names, opposite, np.arange(40), seed=0).tolist())) == 2


def test_a_few_more_prompts_move_few_to_another_kind() -> None:
    names, vectors = made(6060)
    before, after = (kinds_of(names[:n], vectors[:n], np.arange(n), seed=3) for n in (6000, 6060))
    assert (before != after[:6000]).mean() < 0.1


def test_a_stratum_is_kind_length_and_script() -> None:
    prompts = ["a", "b" * (LENGTHS[0] + 1), "\u4f60", "c" * (LENGTHS[-1] + 1), "d"]
    names = [f"{i:032x}" for i in range(5)]
    vectors = np.ones((5, 3), dtype=np.float32)
    found = strata_of(names, prompts, vectors, np.arange(5), seed=0)
    assert found.length.tolist() == [0, 1, 0, len(LENGTHS), 0]
    assert [SCRIPTS[s] for s in found.script] == ["latin", "latin", "chinese", "latin", "latin"]
    assert len(set(found.cell.tolist())) == 4
    assert found.cell[0] == found.cell[4]
    part = found.select(np.array([4, 2]))
    np.testing.assert_array_equal(part.cell, found.cell[[4, 2]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    names, vectors = made(10)
    vectors[4, 2] = value
    with pytest.raises(InvalidEmbeddingError, match="row 4"):
        kinds_of(names, vectors, np.arange(10), seed=0)
