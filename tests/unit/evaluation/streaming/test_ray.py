"""Ray in a process of its own: it opens sockets and warns while it starts and stops."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from routellm_fast.errors import ArtifactNotFoundError, DataError, InvalidArgumentError, MissingExtraError
from routellm_fast.evaluation.streaming import LogColumns, StreamedQuality, ray_engine
from routellm_fast.routers import Router, load_router
from tests.support.processes import run_python

COLUMNS = LogColumns("strong", "weak", domain="kind")

PROGRAM = """
import json
import os
import sys
from pathlib import Path

import numpy as np

from routellm_fast.errors import DataError
from routellm_fast.evaluation.streaming import ray_engine
from routellm_fast.evaluation.streaming import LogColumns, evaluate_log
from routellm_fast.routers import load_router

COLUMNS = LogColumns("strong", "weak", domain="kind")
CSV = ("prompt", "strong", "weak", "kind")


def load():
    return load_router()


def record(index, rng):
    # A prompt that looks like a number, and one of two lines: readers that guess would change them.
    prompt = ("007", "two\\nlines, \\"quoted\\"", "prove the theorem")[index % 3] + " word" * (index % 40)
    return {"prompt": prompt, "strong": float(rng.random() < 0.7), "weak": rng.random(), "kind": "ab"[index % 2]}


if __name__ == "__main__":
    import csv

    import ray

    # Workers must find what is named from here.
    os.chdir(sys.argv[1])
    rng = np.random.default_rng(0)
    records = [record(index, rng) for index in range(1500)]
    lines = Path("log.jsonl")
    lines.write_text("".join(f"{json.dumps(entry)}\\n" for entry in records[:1000]))
    table = Path("log.csv")
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV)
        writer.writeheader()
        writer.writerows(records[1000:])
    files, routers = [lines, table], {"mf": load}

    seen = []
    with lines.open("a") as file:
        file.write("{ broken\\n")
    expected = evaluate_log({"mf": load()}, files, COLUMNS, on_bad_row="skip")
    found = ray_engine.run(
        routers, files, COLUMNS, on_bad_row="skip", part_bytes=5000, workers=2, on_progress=seen.append
    )
    assert not ray.is_initialized(), "what was started is stopped"
    assert (found.digest, found.bad_rows, found.examples) == (expected.digest, expected.bad_rows, expected.examples)
    assert found.rows == 1500 == seen[-1]
    assert found.result("log", resamples=20) == expected.result("log", resamples=20)

    # A Ray of the user's own is used, and left running.
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        ray_engine.run(routers, files, COLUMNS, part_bytes=20000)
    except DataError as error:
        assert "line 1001: not valid JSON" in str(error)
    else:
        raise AssertionError("a damaged line was not refused")
    assert ray.is_initialized()
    ray.shutdown()
    print("equal")
"""


@pytest.mark.slow
def test_ray_gives_the_same_to_the_bit(tmp_path):
    pytest.importorskip("ray")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    run = run_python(str(program), str(tmp_path), environment=environment, timeout_s=500)
    assert run.stdout.splitlines()[-1:] == ["equal"], (run.stdout, run.stderr)


def batch(path: Path) -> dict[str, np.ndarray]:
    return {"path": np.array([str(path)]), "start": np.array([0]), "stop": np.array([-1])}


def load_nothing() -> Router:
    return load_router("no/such/router")


def test_a_worker_hands_named_errors_on_as_values(tmp_path):
    (tmp_path / "log.jsonl").write_text("{}\n")
    for router, log, error in (
        (load_nothing, "log.jsonl", ArtifactNotFoundError),
        (load_router, "none.jsonl", DataError),
        (load_router, "log.jsonl", DataError),
    ):
        worker = ray_engine._Worker({"mf": router}, COLUMNS, "error")
        assert isinstance(worker(batch(tmp_path / log))["found"][0], error)


def test_an_error_survives_merging(tmp_path):
    problem, fine = DataError("broken"), StreamedQuality.of(["mf"], COLUMNS)
    for found in ([problem, fine], [fine, problem], [fine, problem, fine]):
        assert ray_engine._merge(ray_engine._column(found))["found"].tolist() == [problem]


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[ray\]"):
        ray_engine.run({}, [tmp_path / "log.jsonl"], COLUMNS)


@pytest.mark.parametrize(
    ("name", "problem"), [("log.jsonl", "cannot be read"), ("log.parquet", "cannot be read"), ("a.txt", "one of")]
)
def test_files_that_are_not_there_are_named_before_ray_starts(tmp_path, monkeypatch, name, problem):
    monkeypatch.setattr(ray_engine, "require", lambda *_: None)
    with pytest.raises(DataError, match=problem):
        ray_engine.run({}, [tmp_path / name], COLUMNS)


def test_bad_options_are_refused_before_ray_starts(monkeypatch):
    monkeypatch.setattr(ray_engine, "require", lambda *_: None)
    for options in ({"workers": 0}, {"part_bytes": 0}, {"on_bad_row": "ignore"}):
        with pytest.raises(InvalidArgumentError):
            ray_engine.run({}, [Path("log.jsonl")], COLUMNS, **options)
