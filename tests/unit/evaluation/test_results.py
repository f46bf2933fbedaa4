from __future__ import annotations

import json

import pytest

from routellm_fast import DataError
from routellm_fast.evaluation import Evaluation, evaluate
from routellm_fast.interval import Interval
from tests.support.evaluation_builders import knowing_router, made_benchmark


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    bench = made_benchmark(domains=("maths", "law") * 100)
    return evaluate({"r": knowing_router(bench)}, [bench], resamples=20, random_runs=20, created="2026-11-24")


def test_json_round_trip(evaluation, tmp_path):
    record = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert Evaluation.from_json(record) == evaluation
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    assert Evaluation.read(tmp_path / "evaluation.json") == evaluation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format_version=2), "format 1, found 2"),
        (lambda r: r.pop("created"), r"missing keys \['created'\]"),
        (lambda r: r.update(mood="good"), r"unknown keys \['mood'\]"),
        (lambda r: r.update(benchmarks={}), r"evaluation\.benchmarks: found"),
        (lambda r: r["benchmarks"][0].update(prompts="many"), r"benchmarks\[0\]\.prompts: found 'many'"),
        (lambda r: r["benchmarks"][0].update(strong_quality=float("nan")), r"strong_quality: found nan"),
        (lambda r: r["benchmarks"][0]["routers"][0].update(role="king"), r"routers\[0\]\.role: found 'king'"),
        (lambda r: r["benchmarks"][0]["routers"][0].update(metrics=3), r"metrics must be an object"),
        (lambda r: r["routers"]["r"].update(kind=3), r"evaluation\.routers\['r'\]\['kind'\]: found 3"),
    ],
)
def test_damaged_records(evaluation, change, message):
    record = json.loads(json.dumps(evaluation.to_json()))
    change(record)
    with pytest.raises(DataError, match=message):
        Evaluation.from_json(record)


@pytest.mark.parametrize("content", ["", "[", "[]", "3", '{"a": 1}'])
def test_files_that_are_no_evaluation(tmp_path, content):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"evaluation\.json"):
        Evaluation.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        Evaluation.read(tmp_path / "absent.json")


def test_intervals():
    assert Interval.exactly(2.0) == Interval(2.0, 2.0, 2.0)
    assert Interval(2.0, 1.0, 4.0).width == 3.0
