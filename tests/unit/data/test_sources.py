from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from routellm_fast import DataError, data
from routellm_fast.data.routellm_datasets import is_dataset
from routellm_fast.data.sources import rows_of, source_digests, source_files, source_name
from routellm_fast.tables import read_table

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [
    {"prompt": "hello there", "model_a": "x", "model_b": "y", "winner": "model_a", "weight": 2.0},
    {"prompt": "write an essay", "model_a": "y", "model_b": "z", "winner": "tie (bothbad)", "weight": None},
]
ARENA = [
    {
        "model_a": "x",
        "model_b": "y",
        "prompt": json.dumps([" hello\n", "more"]),
        "winner_model_a": 1,
        "winner_model_b": 0,
    },
    {"model_a": "x", "model_b": "y", "prompt": json.dumps(["bye"]), "winner_model_a": 0, "winner_model_b": 0},
    {"model_a": "x", "model_b": "x", "prompt": json.dumps(["self"]), "winner_model_a": 0, "winner_model_b": 1},
]


def table(path: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def summary(path: Path) -> list[tuple[object, ...]]:
    return [(b.prompt, b.model_a, b.model_b, b.target, b.weight) for b in data.read_battles(path, drop_ties=False)]


EXPECTED = [("hello there", "x", "y", 1.0, 2.0), ("write an essay", "y", "z", 0.5, 1.0)]


def test_parquet_is_a_table_like_the_others(tmp_path: Path) -> None:
    path = table(tmp_path / "b.parquet")
    assert summary(path) == EXPECTED
    assert [row.line for row in read_table(path)] == [0, 1]
    labels = table(tmp_path / "g.parquet", [{"prompt": "p", "m1": True, "m2": 0.25, "m3": None, "m1|total_cost": 0.5}])
    (row,) = data.read_golden(labels)
    assert (row.scores, row.costs) == ({"m1": 1.0, "m2": 0.25}, {"m1": 0.5})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROWS[0], {**ROWS[0], "winner": "A"}], "row 1: winner must be one of"),
        ([{**ROWS[0], "prompt": None}, ROWS[0]], "row 0: 'prompt' must be text, found None"),
        ([{**ROWS[0], "weight": float("nan")}], "row 0: 'weight' must be a finite number"),
        ([{"prompt": "p"}], "row 0: there is no column 'winner', only 'prompt'"),
    ],
)
def test_bad_rows_of_parquet_are_named(tmp_path: Path, rows: list[dict[str, object]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        data.read_battles(table(tmp_path / "b.parquet", rows))


def test_parquet_that_cannot_be_a_table_is_refused(tmp_path: Path) -> None:
    empty = pyarrow.table({"prompt": pyarrow.array([], pyarrow.string())})
    parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        list(read_table(tmp_path / "empty.parquet"))
    twice = pyarrow.Table.from_arrays([pyarrow.array(["p"])] * 2, names=["prompt", "prompt"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="named twice"):
        list(read_table(tmp_path / "twice.parquet"))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_table(tmp_path / "none.parquet"))


def test_routellm_s_layout_is_read_as_a_table_too(tmp_path: Path) -> None:
    """mf leaves out ties and battles of a model against itself; only sw_ranking with embeddings needs every row."""
    as_parquet = table(tmp_path / "arena.parquet", ARENA)
    as_lines = tmp_path / "arena.jsonl.gz"
    as_lines.write_bytes(gzip.compress("\n".join(map(json.dumps, ARENA)).encode()))
    counts = data.Counts()
    for path in (as_parquet, as_lines):
        assert [(b.prompt, b.target) for b in data.read_battles(path, drop_ties=False)] == [
            ("hello", 1.0),
            ("bye", 0.5),
        ]
    assert [b.prompt for b in data.read_battles(as_parquet, counts=counts)] == ["hello"]
    assert counts.left_out == {"tie": 1, "of a model against itself": 1}
    assert is_dataset(as_parquet)
    assert not is_dataset(as_lines)
    assert not is_dataset(table(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"winner_model_a": 2}, "'winner_model_a' must be 0 or 1, found 2"),
        ({"winner_model_b": None}, "'winner_model_b' must be 0 or 1"),
        ({"prompt": "[]"}, "'prompt' must be text, or a JSON list"),
        ({"prompt": "[null]"}, "'prompt' must be text, or a JSON list"),
    ],
)
def test_bad_rows_in_routellm_s_layout(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({**ARENA[0], **change}))
    with pytest.raises(DataError, match=f"line 1: {words}"):
        data.read_battles(path)


def test_a_conversation_s_first_message_is_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    row = {"model_a": "x", "model_b": "y", "winner": "model_b"}
    turns = [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "hello"}]
    path.write_text(json.dumps({**row, "conversation_a": turns}))
    assert [b.prompt for b in data.read_battles(path)] == ["hi"]
    for wrong in ([], "hi", [{"role": "user"}], None):
        path.write_text(json.dumps({**row, "conversation_a": wrong}))
        with pytest.raises(DataError, match="line 1: 'conversation_a' must be a list of messages"):
            data.read_battles(path)


def test_folders_are_read_by_split(tmp_path: Path) -> None:
    for index in (1, 0):
        table(tmp_path / "arena" / "data" / f"train-0000{index}-of-00002.parquet", [{**ROWS[0], "prompt": f"p{index}"}])
    table(tmp_path / "arena" / "data" / "test-00000-of-00001.parquet", ROWS[1:])
    folder = tmp_path / "arena"
    assert [b.prompt for b in data.read_battles(folder)] == ["p0", "p1"]
    assert {b.source for b in data.read_battles(folder)} == {"arena"}
    test = Path(f"hf:{folder}:test")
    assert summary(test) == EXPECTED[1:]
    assert source_name(test) == "arena"
    assert list(source_digests(test)) == ["arena/data/test-00000-of-00001.parquet"]
    with pytest.raises(DataError, match="no file of the split 'dev', only test-"):
        list(rows_of(Path(f"hf:{folder}:dev")))
    (tmp_path / "text").mkdir()
    for split, row in zip(("train", "test"), ROWS, strict=True):
        (tmp_path / "text" / f"{split}.jsonl").write_text(json.dumps(row))
    assert summary(tmp_path / "text") == EXPECTED[:1]
    assert summary(Path(f"hf:{tmp_path}/text:test")) == EXPECTED[1:]


def test_what_the_datasets_library_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(str(tmp_path / "many"))
    assert summary(tmp_path / "one") == EXPECTED
    assert summary(Path(f"hf:{tmp_path}/one")) == EXPECTED
    assert summary(tmp_path / "many") == EXPECTED
    assert summary(Path(f"hf:{tmp_path}/many:test")) == EXPECTED[1:]
    assert not is_dataset(tmp_path / "many")
    assert source_files(tmp_path / "one") == []
    digests = source_digests(tmp_path / "one")
    assert next(iter(digests.values())).startswith("sha256:")
    assert digests == source_digests(tmp_path / "one")
    with pytest.raises(DataError, match="no split 'dev', only train, test"):
        list(rows_of(Path(f"hf:{tmp_path}/many:dev")))
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be loaded.*save it again"):
        list(rows_of(tmp_path / "one"))


class Library(SimpleNamespace):
    """Stands for `datasets`: what it is asked for, and what it answers."""

    def load_dataset(self, name: str, split: str) -> object:
        self.asked.append((name, split))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def are_progress_bars_disabled(self) -> bool:
        return not self.bars

    def disable_progress_bars(self) -> None:
        self.bars = False

    def enable_progress_bars(self) -> None:
        self.bars = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library(asked=[], answer=ROWS, bars=True)
    monkeypatch.setitem(sys.modules, "datasets", found)
    return found


def test_the_hub_is_asked_for_name_and_split(library: Library) -> None:
    assert summary(Path("hf:owner/arena")) == EXPECTED
    assert summary(Path("hf:owner/arena:human")) == EXPECTED
    assert library.asked == [("owner/arena", "train"), ("owner/arena", "human")]
    assert library.bars, "the library's own setting is put back"
    assert {b.source for b in data.read_battles(Path("hf:owner/arena:human"))} == {"arena"}
    assert list(source_digests(Path("hf:owner/arena"))) == ["hf:owner/arena"]


@pytest.mark.parametrize("answer", [ConnectionError("offline"), ValueError("Unknown split"), RuntimeError("?")])
def test_a_hub_that_cannot_be_reached_is_a_named_error(library: Library, answer: Exception) -> None:
    library.answer = answer
    with pytest.raises(DataError, match=r"the split 'train' of hf:owner/arena cannot be loaded .* give the folder"):
        data.read_battles(Path("hf:owner/arena"))
    library.answer = []
    with pytest.raises(DataError, match="holds no rows"):
        data.read_battles(Path("hf:owner/arena"))
    with pytest.raises(DataError, match="must be hf:OWNER/NAME"):
        data.read_battles(Path("hf:"))
    with pytest.raises(DataError, match="cannot be read"):
        data.read_battles(Path("hf:/no/such/folder"))
