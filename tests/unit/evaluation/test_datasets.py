from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, ModelPair, UnknownModelError
from routellm_fast.evaluation import (
    Benchmark,
    read_benchmarks,
    read_gsm8k,
    read_mmlu,
    read_mt_bench,
    read_table_benchmark,
    training_groups,
    without_groups,
)

PAIR = ModelPair("S", "W")


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "mmlu/responses/mmlu_a.csv": "prompt,W,S\none,True,False\nseen,False,True\n",
        "mmlu/responses/mmlu_b.csv": "prompt,W,S\ntwo,False,True\n",
        "mmlu/contaminated_prompts.jsonl": lines({"eval_prompt": "seen"}),
        "gsm8k/gsm8k_responses.csv": "prompt,W,S,W_response,S_response\nsum,False,True,1,2\n",
        "gsm8k/contaminated_prompts.jsonl": lines({"eval_prompt": "sum "}),
        "mt_bench/question.jsonl": lines(
            {"question_id": 1, "category": "writing", "turns": ["write", "again"]},
            {"question_id": 2, "turns": ["draw", "seen"]},
            {"question_id": 3, "turns": ["solve", "why"]},
        ),
        "mt_bench/judgements.jsonl": lines(
            *({"question_id": q, "model": m, "turn": t, "score": 6 + t + (m == "S")}
              for q in (1, 2, 3) for m in PAIR for t in (1, 2))
        ),
        "mt_bench/contaminated_prompts.jsonl": lines({"eval_prompt": "seen"}),
    }  # fmt: skip
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_all_three(folder):
    mmlu, gsm8k, mt_bench = read_benchmarks(folder, PAIR)
    assert (mmlu.prompts, mmlu.strong_quality.tolist(), mmlu.dropped) == (("one", "two"), [0.0, 1.0], 1)
    # Contamination is an exact match.
    assert (gsm8k.prompts, gsm8k.dropped) == (("sum",), 0)
    # A question goes when its second turn is contaminated; both turns' scores count.
    assert mt_bench.prompts == ("write", "solve")
    assert mt_bench.strong_quality.tolist() == [8.5, 8.5]
    assert mt_bench.weak_quality.tolist() == [7.5, 7.5]


def test_unknown_model_and_wrong_cells_name_the_line(folder):
    with pytest.raises(DataError, match=r"mmlu_a\.csv, line 2: .*'other'"):
        read_mmlu(folder, ModelPair("other", "W"))
    (folder / "gsm8k/gsm8k_responses.csv").write_text("prompt,W,S\nsum,maybe,True\n")
    with pytest.raises(DataError, match=r"gsm8k_responses\.csv, line 2: 'W' must be a finite number"):
        read_gsm8k(folder, PAIR)
    (folder / "gsm8k/gsm8k_responses.csv").write_text("prompt,W,S\nsum,0.5,True\n")
    with pytest.raises(DataError, match="line 2: expected True or False"):
        read_gsm8k(folder, PAIR)


def test_an_empty_cell_says_that_a_model_was_not_run(folder):
    (folder / "gsm8k/gsm8k_responses.csv").write_text("prompt,W,S\nsum,True,False\nroot,,True\npower,False,\n")
    found = read_gsm8k(folder, PAIR)
    assert (found.prompts, found.unscored) == (("sum",), 2)
    judged = [{"question_id": 1, "model": model, "score": score} for model in "SW" for score in (9, None)]
    judged += [{"question_id": 2, "model": "S", "score": 8}, {"question_id": 2, "model": "W", "score": None}]
    questions = [{"question_id": number, "turns": [f"question {number}"]} for number in (1, 2)]
    (folder / "mt_bench/judgements.jsonl").write_text(lines(*judged))
    (folder / "mt_bench/question.jsonl").write_text(lines(*questions))
    found = read_mt_bench(folder, PAIR)
    assert (found.prompts, found.unscored) == (("question 1",), 1)


def test_json_lines_leave_out_what_was_not_run_also_on_the_first_line(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(lines({"prompt": "p", "W": 1}, {"prompt": "q", "S": 1, "W": 0}, {"prompt": "r", "S": 1, "W": None}))
    found = read_table_benchmark(path, PAIR)
    assert (found.prompts, found.unscored) == (("q",), 2)
    with pytest.raises(UnknownModelError, match="mine.jsonl has no column 'other'"):
        read_table_benchmark(path, ModelPair("other", "W"))


def test_missing_files_and_scores(folder):
    (folder / "mt_bench/judgements.jsonl").write_text(lines({"question_id": 1, "model": "S", "score": 9}))
    with pytest.raises(DataError, match=r"question\.jsonl, line 1: .* no score of 'W'"):
        read_mt_bench(folder, PAIR)
    (folder / "mt_bench/judgements.jsonl").write_text(lines({"question_id": 1, "model": "S", "score": -1}))
    with pytest.raises(DataError, match="line 1: a score lies in"):
        read_mt_bench(folder, PAIR)
    (folder / "mmlu/contaminated_prompts.jsonl").unlink()
    with pytest.raises(DataError, match="contaminated_prompts"):
        read_mmlu(folder, PAIR)
    with pytest.raises(DataError, match="holds no mmlu_"):
        read_mmlu(folder / "gsm8k", PAIR)


def test_domains_of_the_three(folder):
    mmlu, gsm8k, mt_bench = read_benchmarks(folder, PAIR)
    assert mmlu.domains == ("a", "b")
    assert gsm8k.domains == ()  # one domain only
    assert mt_bench.domains == ("writing", "mt_bench")
    assert {benchmark.pair for benchmark in (mmlu, gsm8k, mt_bench)} == {PAIR}


def test_a_checkout_does_as_well(folder, tmp_path_factory):
    checkout = tmp_path_factory.mktemp("RouteLLM")
    (checkout / "routellm").mkdir()
    (checkout / "routellm" / "evals").symlink_to(folder)
    for place in (checkout, checkout / "routellm", checkout / "routellm" / "evals"):
        assert [benchmark.name for benchmark in read_benchmarks(place, PAIR)] == ["mmlu", "gsm8k", "mt_bench"]
    assert [benchmark.name for benchmark in read_benchmarks(folder, PAIR, ["gsm8k"])] == ["gsm8k"]
    with pytest.raises(DataError, match="is no folder of benchmarks: expected one of mmlu, gsm8k, mt_bench"):
        read_benchmarks(tmp_path_factory.mktemp("empty"), PAIR)
    with pytest.raises(InvalidArgumentError, match="no benchmark 'arena', only mmlu, gsm8k, mt_bench"):
        read_benchmarks(folder, PAIR, ["arena"])


TABLE = """prompt,S,W,W|total_cost,S|total_cost,domain,answer_of_S
one,1,0.5,0.001,0.02,law,"yes, indeed"
two,,1,0.001,0.03,law,
three,0.25,0,0.002,0.04,maths,
"""


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.v2.csv"
    path.write_text(TABLE)
    found = read_table_benchmark(path, PAIR)
    assert (found.name, found.prompts, found.domains) == ("mine", ("one", "three"), ("law", "maths"))
    assert (found.unscored, found.dropped, found.max_quality) == (1, 0, 1.0)
    assert found.strong_quality.tolist() == [1.0, 0.25]
    assert found.weak_quality.tolist() == [0.5, 0.0]
    assert found.strong_cost_usd.tolist() == [0.02, 0.04]
    assert found.weak_cost_usd.tolist() == [0.001, 0.002]
    assert read_table_benchmark(path, PAIR, name="other").name == "other"


def test_tables_in_other_formats_and_scales(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(lines({"prompt": "p", "S": 7, "W": True, "S|total_cost": 1.0}, {"prompt": "q", "S": 3.5, "W": 2}))
    found = read_table_benchmark(path, PAIR)
    assert (found.max_quality, found.domains, found.strong_cost_usd) == (10.0, (), None)
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table({"prompt": ["p"], "S": [120.0], "W": [3.0]}), tmp_path / "mine.parquet")
    assert read_table_benchmark(tmp_path / "mine.parquet", PAIR).max_quality == 120.0


def test_a_model_goes_by_its_aliases(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("prompt,gpt-4-1106-preview,mistralai/mixtral-8x7b-chat\np,1,0\n")
    pair = ModelPair("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert read_table_benchmark(path, pair).strong_quality.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("prompt,S\np,1\n", UnknownModelError, r"mine\.csv has no column 'W': name two models .* 'prompt', 'S'"),
        (
            "text,S,W\np,1,0\n",
            DataError,
            "line 2: expected a column prompt, messages, prompt_id, question or conversation_a",
        ),
        ("prompt,S,W\np,1,maybe\n", DataError, "line 2: 'W' must be a finite number"),
        ("prompt,S,W\np,1,nan\n", DataError, "line 2: 'W' must be a finite number"),
        ("prompt,S,W\np,1,-2\n", DataError, "line 2: a score is zero or more, found -2"),
        ("prompt,S,W\np,1,\n", DataError, "no prompt is left .* 1 without scores of both 'S' and 'W'"),
        ("prompt,S,W\n", DataError, "holds no rows"),
        ("", DataError, "holds no rows"),
        ("prompt_id,S,W\n7,1,0\n", DataError, "give the file in which prompt_id is looked up"),
    ],
)
def test_bad_tables(tmp_path, content, error, message):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(error, match=message):
        read_table_benchmark(path, PAIR)


def test_prompts_of_training_data_are_left_out_and_counted(tmp_path):
    path, train, ids = tmp_path / "mine.csv", tmp_path / "train.csv", tmp_path / "battles.csv"
    path.write_text("prompt,S,W\n  What is THIS? ,1,0\nnever seen,1,0\nknown by id,0,0\n")
    train.write_text("prompt,model_a,model_b,winner\nwhat is this?,a,b,tie\n")
    ids.write_text("prompt_id,model_a,model_b,winner\n7,a,b,tie\n")
    groups = training_groups([train, ids], prompts={"7": ("known by id", "any")})
    found = without_groups(read_table_benchmark(path, PAIR), groups)
    assert (found.prompts, found.overlapping, found.strong_quality.tolist()) == (("never seen",), 2, [1.0])
    assert training_groups([]) == frozenset()
    with pytest.raises(DataError, match="mine: all 1 prompts are in the training data"):
        without_groups(found, training_groups([path]))


def test_columns_must_fit():
    one = np.ones(1)
    with pytest.raises(InvalidArgumentError, match=r"strong_quality must hold 2 finite numbers, found shape \(1,\)"):
        Benchmark("x", ("a", "b"), one, one, 1.0, 0)
    with pytest.raises(InvalidArgumentError, match="weak_quality must hold 1 finite"):
        Benchmark("x", ("a",), one, one * np.nan, 1.0, 0)
    with pytest.raises(InvalidArgumentError, match="1 prompts, 2 domains and 0 groups"):
        Benchmark("x", ("a",), one, one, 1.0, 0, domains=("a", "b"))
    with pytest.raises(InvalidArgumentError, match="1 prompts, 0 domains and 2 groups"):
        Benchmark("x", ("a",), one, one, 1.0, 0, groups=("a", "b"))


def test_groups_go_with_their_prompts():
    one = np.ones(3)
    found = Benchmark("x", ("a", "b", "c"), one, one, 1.0, 0, groups=("1", "1", "2"))
    assert found.select(np.array([2, 0])).groups == ("2", "1")


def test_digests_tell_prompts_apart():
    one = np.ones(2)
    digests = {Benchmark("x", prompts, one, one, 1.0, 0).digest() for prompts in (("a", "b"), ("b", "a"), ("ab", ""))}
    assert len(digests) == 3
