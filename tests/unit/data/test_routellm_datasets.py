from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import DataError
from routellm_fast.data import Counts
from routellm_fast.data import routellm_datasets as datasets

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

LONG = "a prompt of some length"


def battles(path: Path, rows: list[tuple[object, ...]], **columns: list[object]) -> Path:
    names = ("model_a", "model_b", "prompt", "winner_model_a", "winner_model_b")
    table = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pyarrow.table({**table, **columns}), path)
    return path


def embeddings(path: Path, rows: object, kind: object = None, row_group_size: int | None = None) -> Path:
    column = pyarrow.array(rows, type=kind or pyarrow.list_(pyarrow.float64()))
    parquet.write_table(pyarrow.table({"embeddings": column}), path, row_group_size=row_group_size)
    return path


def battle(prompt: object = LONG, a_won: object = 1, b_won: object = 0) -> tuple[object, ...]:
    return ("x", "y", json.dumps([prompt, "second turn"]), a_won, b_won)


def test_battles_are_read_as_routellm_reads_them(tmp_path: Path) -> None:
    rows = [
        battle(f"  {LONG}\n"),
        battle(a_won=0, b_won=1),
        battle(a_won=0, b_won=0),
        battle("   fifteen letters   "),
        battle("sixteen  letters"),
        ("mixtral-8x7b-instruct-v0.1", "mixtral-8x7b-instruct-v0.1", json.dumps([LONG]), 1, 0),
    ]
    path = battles(tmp_path / "arena.parquet", rows, winner_tie=[0, 0, 1, 0, 0, 0], response_a=["…"] * 6)
    found = datasets.read_battles(path)
    assert [(b.model_a, b.model_b, b.target) for b in found] == [
        ("x", "y", 1.0),
        ("x", "y", 0.0),
        ("x", "y", 0.5),
        ("x", "y", 1.0),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1",) * 2 + (1.0,),
    ]
    assert [b.prompt for b in found] == [LONG, LONG, LONG, "sixteen  letters", LONG]
    assert {b.source for b in found} == {"arena"}
    assert len(datasets.read_battles(path, min_prompt_chars=0)) == 6


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_battles_may_be_text_as_the_arena_s_are_published(tmp_path: Path, suffix: str) -> None:
    names = ("model_a", "model_b", "prompt", "winner_model_a", "winner_model_b", "winner_tie")
    rows = [(*battle(f'{LONG}, "quoted"\n{number}'), 0) for number in range(3)]
    rows += [(*battle("too short"), 0), (*battle(a_won=0), 1)]
    path = tmp_path / "arena" / f"train{suffix}"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        if suffix == ".csv":
            csv.writer(file).writerows([names, *rows])
        else:
            file.writelines(f"{json.dumps(dict(zip(names, row, strict=True)))}\n" for row in rows)
    same = battles(tmp_path / "arena.parquet", [row[:5] for row in rows], winner_tie=[row[5] for row in rows])
    counts = Counts()
    assert datasets.read_battles(path.parent, counts=counts) == datasets.read_battles(same)
    assert (counts.rows, counts.battles) == (5, 4)
    # Without vectors it is a table like any other.
    for place in (path, path.parent):
        assert not datasets.is_dataset(place)
        assert datasets.is_dataset(place, any_form=True)
    other = tmp_path / f"other{suffix}"
    other.write_text("prompt,winner\na,tie\n" if suffix == ".csv" else '{"prompt": "a", "winner": "tie"}\n')
    assert not datasets.is_dataset(other, any_form=True)
    with pytest.raises(DataError, match=r"other\..*, line \d: there is no column 'model_a', only 'prompt', 'winner'"):
        datasets.read_battles(other)


def test_routellm_looks_at_the_first_turn_alone(tmp_path: Path) -> None:
    rows = [battle(), ("x", "y", json.dumps(["", LONG]), 1, 0), ("x", "y", LONG, 1, 0)]
    found = datasets.read_battles(battles(tmp_path / "b.parquet", rows))
    assert [b.prompt for b in found] == [LONG, LONG]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "arena" / "data").mkdir(parents=True)
    for index in (1, 0):
        name = f"train-0000{index}-of-00002-abc.parquet"
        battles(tmp_path / "arena" / "data" / name, [battle(f"{LONG} {index}")])
    battles(tmp_path / "arena" / "data" / "test-00000-of-00001.parquet", [battle("another split's prompt")])
    for folder in (tmp_path / "arena", tmp_path / "arena" / "data"):
        assert datasets.is_dataset(folder)
        assert [b.prompt for b in datasets.read_battles(folder)] == [f"{LONG} 0", f"{LONG} 1"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no table"):
        datasets.read_battles(tmp_path / "empty")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("x", "y", "[]", 1, 0), r"row 1: 'prompt' must be text, or a JSON list"),
        (("x", "y", "[null]", 1, 0), r"row 1: 'prompt' must be text, or a JSON list"),
        (("x", "y", None, 1, 0), r"row 1: 'prompt' must be text, or a JSON list"),
        (("", "y", json.dumps([LONG]), 1, 0), r"row 1: 'model_a' must be a name"),
        (("x", None, json.dumps([LONG]), 1, 0), r"row 1: 'model_b' must be a name"),
        (battle(a_won=2), r"row 1: 'winner_model_a' must be 0 or 1, found 2"),
        (battle(b_won=None), r"row 1: 'winner_model_b' must be 0 or 1, found None"),
    ],
)
def test_bad_battles_name_file_column_and_row(tmp_path: Path, row: tuple[object, ...], words: str) -> None:
    path = battles(tmp_path / "b.parquet", [battle(), row])
    with pytest.raises(DataError, match=words) as error:
        datasets.read_battles(path)
    assert "b.parquet" in str(error.value)


def test_a_file_that_is_no_parquet_or_lacks_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match=r"b\.parquet cannot be read"):
        datasets.read_battles(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"none\.parquet cannot be read"):
        datasets.read_battles(tmp_path / "none.parquet")
    for read in (datasets.read_battles, lambda path: datasets.read_embeddings([path])):
        parquet.write_table(pyarrow.table({"model_a": ["x"]}), tmp_path / "c.parquet")
        with pytest.raises(DataError, match=r"c\.parquet: there is no column '\w+', only 'model_a'"):
            read(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.list_(pyarrow.float64()),
        pyarrow.list_(pyarrow.float32()),
        pyarrow.large_list(pyarrow.float64()),
        pyarrow.list_(pyarrow.float32(), 3),
    ],
    ids=str,
)
def test_embeddings_become_one_float32_array(tmp_path: Path, kind: object) -> None:
    expected = np.random.default_rng(0).normal(size=(2500, 3))  # more than a batch, in several row groups
    first = embeddings(tmp_path / "a.parquet", expected[:2000].tolist(), kind, row_group_size=300)
    second = embeddings(tmp_path / "b.parquet", expected[2000:2400].tolist(), kind)
    np.save(tmp_path / "c.npy", expected[2400:])
    found = datasets.read_embeddings([first, second, tmp_path / "c.npy"])
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_one_npy_file_is_mapped(tmp_path: Path) -> None:
    expected = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "e.npy", expected)
    found = datasets.read_embeddings([tmp_path / "e.npy"])
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ([[1.0, 2.0], [1.0]], None, r"row 1: 'embeddings' has 1 numbers"),
        ([[1.0, 2.0], None], None, r"row 1: 'embeddings' has 0 numbers"),
        ([[], []], None, r"row 0: 'embeddings' has 0 numbers"),
        ([[1.0, 2.0], [1.0, None]], None, r"row 1: 'embeddings' has a missing number"),
        ([[1.0, 2.0], [float("nan"), 1.0]], None, r"row 1: 'embeddings' has a number that is not finite"),
        ([[1.0, 2.0], [1e300, 1.0]], None, r"row 1: 'embeddings' has a number that is not finite as float32"),
        ([["a"], ["b"]], pyarrow.list_(pyarrow.string()), r"must be lists of floats, found list"),
        ([1.0, 2.0], pyarrow.float64(), r"must be lists of floats, found double"),
    ],
)
def test_bad_embeddings_name_file_and_row(tmp_path: Path, rows: list[object], kind: object, words: str) -> None:
    path = embeddings(tmp_path / "e.parquet", rows, kind)
    with pytest.raises(DataError, match=words) as error:
        datasets.read_embeddings([path])
    assert "e.parquet" in str(error.value)


def test_embeddings_of_another_length_or_none_at_all_are_refused(tmp_path: Path) -> None:
    two, three = embeddings(tmp_path / "2.parquet", [[1.0, 2.0]]), embeddings(tmp_path / "3.parquet", [[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match=r"3\.parquet, row 0: 'embeddings' has 3 numbers, but those before it have 2"):
        datasets.read_embeddings([two, three])
    with pytest.raises(DataError, match="there are no embeddings"):
        datasets.read_embeddings([embeddings(tmp_path / "0.parquet", [])])


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), int), np.zeros((0, 4)), np.zeros((2, 2, 2))])
def test_an_npy_file_of_another_shape_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "e.npy", array)
    with pytest.raises(DataError, match=r"e\.npy must hold a \(n, dim\) array of floats"):
        datasets.read_embeddings([tmp_path / "e.npy"])
    (tmp_path / "e.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"e\.npy cannot be read as \.npy"):
        datasets.read_embeddings([tmp_path / "e.npy"])
