from __future__ import annotations

import csv
import gzip
import json
import pickle
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.bootstrap import bootstrap
from routellm_fast.evaluation.datasets import Benchmark, read_table_benchmark
from routellm_fast.evaluation.metrics import apgr_paper, oracle_metrics, oracle_ranks, router_metrics, sweep
from routellm_fast.evaluation.results import BenchmarkResult
from routellm_fast.evaluation.streaming import (
    LogColumns,
    QualitySketch,
    StreamedQuality,
    evaluate_log,
    evaluate_stream,
    score_log,
)
from routellm_fast.evaluation.streaming.resampling import resampled_cells, sketch_draws
from routellm_fast.evaluation.streaming.rows import log_parts, read_part
from routellm_fast.tables import Row
from tests.support.builders import mf_router

COLUMNS = LogColumns("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1", domain="kind")
STRONG, WEAK = COLUMNS.strong, COLUMNS.weak
GRID = 2.0**-20


class Fixed:
    """A router that reads its win rate off the prompt."""

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([float(prompt.split()[0]) for prompt in prompts], dtype=np.float32)


def sample(rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Win rates in a narrow band, and qualities that depend on them."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=rows)
    strong = (rng.random(rows) < 1 / (1 + np.exp(difficulty - 1.6))).astype(float)
    weak = (rng.random(rows) < 1 / (1 + np.exp(1.5 * difficulty - 0.6))).astype(float)
    rates = np.clip(0.57 + 0.02 * (0.6 * difficulty + 0.8 * rng.normal(size=rows)), 0, 1).astype(np.float32)
    return rates, strong, weak


def as_benchmark(rates: np.ndarray, strong: np.ndarray, weak: np.ndarray) -> Benchmark:
    return Benchmark("log", ("p",) * len(rates), strong, weak, 1.0, 0)


def sketch_of(*arrays: np.ndarray, bits: int = 20) -> QualitySketch:
    sketch = QualitySketch(bits)
    sketch.add(*arrays)
    return sketch


def records(rows: int = 500, seed: int = 0) -> list[dict[str, object]]:
    return [
        {"prompt": f"{rate} {'word ' * (index % 37)}", STRONG: strong, WEAK: weak, "kind": "ab"[index % 2]}
        for index, (rate, strong, weak) in enumerate(zip(*map(np.ndarray.tolist, sample(rows, seed)), strict=True))
    ]


def write(path: Path, found: Sequence[dict[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(list(found)), path, row_group_size=max(1, len(found) // 7))
        return path
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        if ".csv" in path.suffixes:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        else:
            file.writelines(f"{json.dumps(record)}\n" for record in found)
    return path


# The sketch


def test_metrics_are_exactly_those_of_win_rates_rounded_down():
    rates, strong, weak = sample()
    rounded = np.floor(rates.astype(np.float64) / GRID) * GRID
    expected = sweep(rounded, as_benchmark(rates, strong, weak))
    found = sketch_of(rates, strong, weak).levels().sweep()
    np.testing.assert_allclose(found.strong_share, expected.strong_share, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.quality, expected.quality, rtol=0, atol=1e-12)
    assert found.apgr == pytest.approx(expected.apgr, abs=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3, 7, 40])
def test_ties_are_treated_as_the_exact_metrics_do(levels):
    rates, strong, weak = sample(999)
    rates = (np.digitize(rates, np.quantile(rates, np.linspace(0, 1, levels + 1)[1:-1])) / 64).astype(np.float32)
    benchmark = as_benchmark(rates, strong, weak)
    found, expected = sketch_of(rates, strong, weak).levels().sweep(), router_metrics("", rates, benchmark)
    assert found.apgr == pytest.approx(expected.apgr, abs=1e-12)
    assert [found.cpt(x) for x in (0.2, 0.5, 0.8)] == pytest.approx([expected.cpt20, expected.cpt50, expected.cpt80])


def test_the_stated_error_bound_holds():
    rates, strong, weak = sample()
    exact = as_benchmark(rates, strong, weak)
    for bits in (6, 8, 12, 20):
        sketch = sketch_of(rates, strong, weak, bits=bits)
        bound = sketch.largest_bin_share * np.abs(strong - weak).max()
        whole = sketch.levels().curve()
        order = np.argsort(-rates, kind="stable")
        shares = np.arange(len(rates) + 1) / len(rates)
        truth = weak.mean() + np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(rates)
        assert np.abs(np.interp(shares, whole.strong_share, whole.quality) - truth).max() <= bound + 1e-12
        gap = strong.mean() - weak.mean()
        assert abs(sketch.levels().sweep().apgr - router_metrics("", rates, exact).apgr) <= 2 * bound / gap


def test_strong_share_at_a_threshold_on_the_grid_is_exact():
    rates, strong, weak = sample()
    sketch = sketch_of(rates, strong, weak)
    for threshold in (0.0, 0.5, 0.5625, 600000 * GRID, 1.0):
        assert sketch.strong_share(threshold) == (rates >= threshold).mean()


@pytest.mark.parametrize("chunk", [1, 7, 512, 3000])
def test_neither_chunks_nor_order_nor_merging_change_a_bit(chunk):
    rates, strong, weak = sample()
    strong, weak = strong * 0.1 + 1 / 3, weak * 7.3  # sums of these in float64 would depend on the order
    expected = sketch_of(rates, strong, weak)
    order = np.random.default_rng(chunk).permutation(len(rates))
    parts = [sketch_of(*(a[order[i : i + chunk]] for a in (rates, strong, weak))) for i in range(0, len(rates), chunk)]
    whole = QualitySketch()
    for part in reversed(parts):
        whole.merge(pickle.loads(pickle.dumps(part)))
    assert whole.digest == expected.digest
    assert whole.levels().sweep().apgr == expected.levels().sweep().apgr
    assert whole.strong_quality == expected.strong_quality == pytest.approx(strong.mean(), abs=2.0**-22)


def test_merging_an_empty_sketch_changes_nothing_and_leaves_the_other_alone():
    full, empty = sketch_of(*sample(50)), QualitySketch()
    before = full.digest
    full.merge(empty)
    assert full.digest == before
    empty.merge(full)
    empty.merge(full)
    assert (full.digest, full.rows, empty.rows) == (before, 50, 100)


def test_the_ends_of_the_win_rate_have_places():
    sketch = sketch_of(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    assert sketch.levels().curve().strong_share.tolist() == [0.0, 0.5, 1.0]
    assert sketch.levels().curve().threshold[0] > 1.0
    edges, counts = sketch.levels().histogram(4)
    assert (edges.tolist(), counts.tolist()) == ([0.0, 0.25, 0.5, 0.75, 1.0], [1, 0, 0, 1])


def test_the_histogram_counts_every_prompt():
    rates, strong, weak = sample()
    edges, counts = sketch_of(rates, strong, weak).levels().histogram(30)
    assert counts.sum() == len(rates)
    assert (np.diff(edges) > 0).all()
    assert sketch_of(np.full(9, 0.5), np.ones(9), np.ones(9)).levels().histogram(60)[1].sum() == 9


@pytest.mark.parametrize("metric", ["apgr_routellm", "apgr_paper", "cpt50"])
def test_intervals_are_those_of_the_bootstrap_over_prompts(metric):
    rates, strong, weak = sample(4000)
    exact = bootstrap({"a": rates}, as_benchmark(rates, strong, weak), resamples=1000)["a"][metric]
    found = sketch_draws(sketch_of(rates, strong, weak), 1000, seed=0)[metric]
    width = np.quantile(exact, 0.975) - np.quantile(exact, 0.025)
    np.testing.assert_allclose(
        np.quantile(found, (0.025, 0.975)), np.quantile(exact, (0.025, 0.975)), atol=width * 0.12
    )


def test_a_resample_has_the_metrics_of_the_prompts_drawn():
    """Where every prompt has a cell of its own nothing is lost, and a log says what a table says."""
    rates, (_, strong, weak) = np.arange(1, 115) / 256, sample(114)
    sketch = sketch_of(rates, strong, weak)
    draws = sketch_draws(sketch, 30, seed=5)
    ((counts, _),) = resampled_cells(sketch.cells(2048)[1], 30, seed=5)
    for index, drawn in enumerate(np.diff(counts, prepend=0)):
        repeated = [np.repeat(column, drawn) for column in (rates, strong, weak)]
        expected = router_metrics("", repeated[0], as_benchmark(*repeated))
        assert draws["apgr_routellm"][index] == pytest.approx(expected.apgr, abs=1e-9)
        assert draws["cpt50"][index] == pytest.approx(expected.cpt50, abs=1e-9)


def test_the_interval_of_the_oracle_is_that_of_the_bootstrap_over_prompts():
    """Most prompts gain nothing: they are of one level, which the oracle may divide and a threshold may not."""
    strong, weak = np.repeat([1.0, 0.5, 0.0], [80, 900, 20]), np.repeat([0.0, 0.5, 1.0], [80, 900, 20])
    benchmark = as_benchmark(strong, strong, weak)
    exact = bootstrap({"oracle": oracle_ranks(benchmark)}, benchmark, resamples=1000)["oracle"]["apgr_routellm"]
    sketch = sketch_of((strong - weak + 2048.0) / 4096.0, strong, weak, bits=22)
    found = sketch_draws(sketch, 1000, seed=0, is_divisible=True)["apgr_routellm"]
    low, high = np.quantile(exact, (0.025, 0.975))
    np.testing.assert_allclose(np.quantile(found, (0.025, 0.975)), (low, high), atol=(high - low) * 0.12)
    assert low < sketch.levels(is_divisible=True).values()["apgr_routellm"] < high


def test_intervals_cover_what_a_larger_log_shows():
    truth = sketch_of(*sample(200_000, seed=99)).levels().sweep().apgr
    covered = 0
    for seed in range(60):
        draws = sketch_draws(sketch_of(*sample(600, seed)), 200, seed=seed, cells=256)["apgr_routellm"]
        low, high = np.quantile(draws, (0.025, 0.975))
        covered += low <= truth <= high
    # 57 of 60 on average; fewer than 50 in one of 4,000 such tests.
    assert covered >= 50


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (([0.5, 0.5], [1.0], [1.0]), "shapes"),
        (([np.nan], [1.0], [1.0]), "found nan at index 0"),
        (([0.5, 1.1], [1.0] * 2, [1.0] * 2), "found 1.1 at index 1"),
        (([0.5], [np.inf], [1.0]), "quality lies in"),
        (([0.5], [1.0], [-2000.0]), "scale it down"),
    ],
)
def test_bad_numbers_are_refused_and_not_taken_in(arrays, problem):
    sketch = QualitySketch()
    with pytest.raises(InvalidArgumentError, match=problem):
        sketch.add(*map(np.array, arrays))
    assert sketch.rows == 0


def test_an_empty_sketch_has_no_figures():
    for read in (QualitySketch.levels, lambda s: s.cells(10), lambda s: s.strong_quality):
        with pytest.raises(DataError, match="empty"):
            read(QualitySketch())


def test_sketches_of_other_bins_do_not_add():
    with pytest.raises(InvalidArgumentError, match=r"2\^14"):
        QualitySketch().merge(QualitySketch(14))
    with pytest.raises(InvalidArgumentError, match="bits=25"):
        QualitySketch(25)


def test_sums_cannot_overflow_unseen(monkeypatch):
    monkeypatch.setattr("routellm_fast.evaluation.streaming.sketch._MAX_ROWS", 60)
    sketch = sketch_of(*sample(50))
    with pytest.raises(DataError, match="60 rows at most, found 100"):
        sketch.merge(sketch_of(*sample(50)))


# Logs


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same(tmp_path, suffix):
    expected = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "a.jsonl", records())], COLUMNS)
    found = evaluate_log({"fixed": Fixed()}, [write(tmp_path / f"log{suffix}", records())], COLUMNS)
    assert found.rows == 500
    assert found.digest == expected.digest


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("part_bytes", [1, 100, 5000, 1 << 30])
def test_parts_together_hold_every_row_once(tmp_path, suffix, part_bytes):
    path = write(tmp_path / f"log{suffix}", records(60))
    parts = log_parts(path, part_bytes=part_bytes)
    rows = [row for part in parts for row in read_part(part)]
    assert [row.values for row in rows] == [row.values for row in read_part(parts[0].__class__(path))]
    assert len(rows) == 60
    if suffix in (".jsonl", ".parquet") and part_bytes <= 5000:
        assert len(parts) > 1


def test_files_and_chunks_do_not_matter(tmp_path):
    found = records(300)
    one = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "one.jsonl", found)], COLUMNS)
    files = [write(tmp_path / "b.jsonl", found[100:]), write(tmp_path / "a.csv", found[:100])]
    assert evaluate_log({"fixed": Fixed()}, files, COLUMNS).digest == one.digest
    rows = [Row(Path("log"), line, record) for line, record in enumerate(found)]
    for chunk_rows in (1, 13, 300):
        assert evaluate_stream({"fixed": Fixed()}, rows, COLUMNS, chunk_rows=chunk_rows).digest == one.digest


def test_a_real_router_and_progress(tmp_path):
    seen: list[int] = []
    path = write(tmp_path / "log.jsonl", records(5000))
    found = evaluate_log({"mf": mf_router()}, [path], COLUMNS, on_progress=seen.append)
    assert seen == [4096, 5000]
    assert found.rows == 5000


def test_the_result_is_that_of_the_exact_metrics(tmp_path):
    found = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "log.jsonl", records(2000))], COLUMNS)
    result = found.result("log", resamples=200)
    rates, strong, weak = sample(2000)
    exact = as_benchmark(rates, strong, weak)
    metrics = router_metrics("", rates, exact)
    by_name = {router.name: router for router in result.routers}
    assert list(by_name) == ["fixed", "prompt length", "random", "oracle"]
    assert [router.role for router in result.routers] == ["router", "baseline", "baseline", "bound"]
    fixed = by_name["fixed"].metrics
    assert fixed.apgr_routellm.value == pytest.approx(metrics.apgr, abs=1e-4)
    assert fixed.apgr_paper.value == pytest.approx(apgr_paper(rates, exact), abs=1e-4)
    assert fixed.cpt50.value == pytest.approx(metrics.cpt50, abs=1e-3)
    assert fixed.apgr_routellm.low < metrics.apgr < fixed.apgr_routellm.high
    assert fixed.saving_cpt50.value == pytest.approx(0.5 / fixed.cpt50.value)
    assert fixed.dollar_saving_cpt50 is not None
    assert by_name["oracle"].metrics.apgr_routellm.value == pytest.approx(oracle_metrics(exact).apgr, abs=1e-3)
    words = np.array([len(str(record["prompt"]).split()) for record in records(2000)], dtype=float)
    expected = router_metrics("", words, exact).apgr
    assert by_name["prompt length"].metrics.apgr_routellm.value == pytest.approx(expected, abs=1e-9)
    assert max(by_name["prompt length"].curve.threshold[1:]) == words.max()
    assert by_name["random"].metrics.apgr_routellm.value == 0.5
    assert {name: domain.prompts for name, domain in by_name["fixed"].by_domain.items()} == {"a": 1000, "b": 1000}
    histogram = by_name["fixed"].histogram
    assert histogram is not None
    assert sum(histogram.counts) == 2000
    assert result.max_quality == 1.0


def test_random_routing_spreads_as_runs_do(tmp_path):
    from routellm_fast.evaluation.bootstrap import random_runs

    found = evaluate_log({}, [write(tmp_path / "log.jsonl", records(2000))], COLUMNS).result("log", resamples=10)
    random = next(router for router in found.routers if router.name == "random").metrics
    runs = random_runs(as_benchmark(*sample(2000)), runs=2000)
    for name in ("apgr_routellm", "cpt50"):
        low, high = np.quantile(runs[name], (0.025, 0.975))
        assert getattr(random, name).width == pytest.approx(high - low, rel=0.2)


def test_the_result_can_be_kept_and_shown(tmp_path):
    pytest.importorskip("matplotlib")
    from routellm_fast.evaluation.report import write_report
    from routellm_fast.evaluation.results import Evaluation

    result = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "log.jsonl", records(800))], COLUMNS).result(
        "log", resamples=50
    )
    evaluation = Evaluation("2026-11-24", {}, (result,))
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    assert len(write_report(evaluation, tmp_path / "report")) == 6


def test_memory_does_not_grow_with_the_log():
    records_of_chunk = [Row(Path("log"), line, record) for line, record in enumerate(records(2000))]

    def peak(chunks: int) -> int:
        def rows() -> Iterator[Row]:
            for _ in range(chunks):
                yield from records_of_chunk

        tracemalloc.start()
        evaluate_stream({"fixed": Fixed()}, rows(), COLUMNS, chunk_rows=2000)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(60) < 1.5 * peak(20) < 60_000_000


# Bad logs


def bad_log(tmp_path: Path, *lines: str) -> Path:
    good = [json.dumps(record) for record in records(20)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*good[:10], *lines, *good[10:]]) + "\n", encoding="utf-8")
    return path


BAD = [
    ("{ not json", "line 11: not valid JSON", "damaged line"),
    ("[1]", "line 11: must be a JSON object, found list", "damaged line"),
    (json.dumps({STRONG: 1, WEAK: 1, "kind": "a"}), "line 11: expected a column prompt", "no text for a prompt"),
    (json.dumps({"prompt": 7, STRONG: 1, WEAK: 1, "kind": "a"}), "must be text, found 7", "no text for a prompt"),
    (json.dumps({"prompt": "1", STRONG: 1, WEAK: 1}), "there is no column 'kind'", "no text for a prompt or domain"),
    (json.dumps({"prompt": "1", STRONG: "good", WEAK: 1, "kind": "a"}), "must be a finite number", "no number"),
    (json.dumps({"prompt": "1", STRONG: np.nan, WEAK: 1, "kind": "a"}), "must be a finite number", "no number"),
    (json.dumps({"prompt": "1", STRONG: 1e9, WEAK: 1, "kind": "a"}), "scale it down", "out of range"),
]  # fmt: skip


NOT_RUN_LINES = [
    {"prompt": "1", STRONG: 1, "kind": "a"},
    {"prompt": "1", STRONG: None, WEAK: 1, "kind": "a"},
    {"prompt": "1", STRONG: "", WEAK: 1, "kind": "a"},
]


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
@pytest.mark.parametrize("line", NOT_RUN_LINES)
def test_an_empty_quality_says_that_a_model_was_not_run(tmp_path, line, on_bad_row):
    path = bad_log(tmp_path, *[json.dumps(line)] * 2)
    found = evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row=on_bad_row)
    assert (found.rows, found.unscored, found.bad_rows.total(), found.examples) == (20, 2, 2, ())
    result = found.result("log", resamples=5)
    assert result.unscored == 2
    assert result.left_out == ("2 left out because one of the models was not run on them",)
    assert "left out:" not in " ".join(result.notes)  # counted once


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_an_empty_cell_of_a_log_is_what_it_is_in_a_table(tmp_path, suffix):
    rows = [{**record, STRONG: None} if index % 4 == 0 else record for index, record in enumerate(records(80))]
    path = write(tmp_path / f"log{suffix}", rows)
    found = evaluate_log({"fixed": Fixed()}, [path], COLUMNS)
    table = read_table_benchmark(path, ModelPair(STRONG, WEAK))
    assert (found.rows, found.unscored) == (len(table.prompts), table.unscored) == (60, 20)


def test_a_column_that_a_table_lacks_is_named_at_the_first_row(tmp_path):
    path = write(tmp_path / "log.csv", records(20))
    with pytest.raises(DataError, match=r"log\.csv, line 2: there is no column 'other', only 'prompt'"):
        evaluate_log({"fixed": Fixed()}, [path], LogColumns("other", WEAK))
    lines = write(tmp_path / "log.jsonl", records(20))
    with pytest.raises(DataError, match=r"qualities of 'other' and .*rows left out: 20 \(one of the models was "
                                        r"not run\)"
                                        r"\. The first row has the columns 'prompt'"):  # fmt: skip
        evaluate_log({"fixed": Fixed()}, [lines], LogColumns("other", WEAK))


def test_a_column_goes_by_any_spelling_of_its_model(tmp_path):
    expected = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "a.csv", records(30))], COLUMNS)
    spelled = [{"mistralai/mixtral-8x7b-chat" if key == WEAK else key: value for key, value in record.items()}
               for record in records(30)]  # fmt: skip
    found = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "b.csv", spelled)], COLUMNS)
    assert found.digest == expected.digest


def test_rows_without_a_domain_are_a_domain_of_their_own(tmp_path):
    rows = [{**record, "kind": (None, "", 7)[index % 3]} for index, record in enumerate(records(30))]
    found = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "log.jsonl", rows)], COLUMNS)
    assert {name: sketch.rows for name, sketch in found.domains["fixed"].items()} == {"(none)": 20, "7": 10}


@pytest.mark.parametrize(("line", "problem", "reason"), BAD)
def test_a_bad_row_is_named(tmp_path, line, problem, reason):
    with pytest.raises(DataError, match=r"log\.jsonl, line 11: ") as raised:
        evaluate_log({"fixed": Fixed()}, [bad_log(tmp_path, line)], COLUMNS)
    assert problem in str(raised.value)


@pytest.mark.parametrize(("line", "problem", "reason"), BAD)
def test_or_left_out_counted_and_reported(tmp_path, line, problem, reason):
    path = bad_log(tmp_path, line, line)
    found = evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row="skip")
    assert found.rows == 20
    ((named, count),) = found.bad_rows.items()
    assert reason in named
    assert count == 2
    assert problem in found.examples[0]
    notes = " ".join(found.result("log", resamples=5).notes)
    assert "Rows left out: 2" in notes
    assert "line 11" in notes
    parts = [StreamedQuality.of(["fixed"], COLUMNS) for _ in range(3)]
    for part, piece in zip(parts, log_parts(path, part_bytes=-(-path.stat().st_size // 3)), strict=True):
        from routellm_fast.evaluation.streaming.local_engine import rows_of

        rows = rows_of(piece, part, "skip")
        evaluate_stream({"fixed": Fixed()}, rows, COLUMNS, on_bad_row="skip", into=part)
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert (parts[2].digest, parts[2].bad_rows, parts[2].examples) == (found.digest, found.bad_rows, found.examples)


def test_compressed_lines_can_be_left_out_too(tmp_path):
    content = bad_log(tmp_path, "{").read_bytes()
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    found = evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row="skip")
    assert (found.rows, found.bad_rows.total()) == (20, 1)
    assert "line 11" in found.examples[0]
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row="skip")


def test_damaged_csv_is_never_skipped(tmp_path):
    path = write(tmp_path / "log.csv", records(5))
    path.write_text(path.read_text() + "one,cell,too,many,here\n")
    with pytest.raises(DataError, match="found 5 cells, expected 4"):
        evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row="skip")


def test_a_line_number_in_the_middle_of_a_file_is_counted(tmp_path):
    path = bad_log(tmp_path, "{")
    start = path.read_bytes().index(b"\n{\n") - 20
    from routellm_fast.evaluation.streaming.rows import LogPart

    with pytest.raises(DataError, match="line 11: not valid JSON"):
        list(read_part(LogPart(path, start)))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("log.jsonl", None, "No such file"),
        ("log.csv", None, "No such file"),
        ("log.parquet", None, "cannot be read"),
        ("log.parquet", b"PAR1 not really", "cannot be read"),
        ("log.jsonl.gz", b"no gzip", "cannot be read"),
        ("log.txt", b"hello", "must be a table"),
        ("log.jsonl", b"", "holds no row"),
        ("log.jsonl", b"\n\n", "holds no row"),
        ("log.csv", b"prompt,a\n", "holds no rows"),
        ("log.jsonl", b"\xff\xfe{}\n", "is UTF-16, expected UTF-8: save it as UTF-8"),
        ("log.jsonl", b"\xff{}\n", "line 1: not valid JSON"),
    ],
)
def test_files_that_are_no_logs(tmp_path, name, content, problem):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        evaluate_log({"fixed": Fixed()}, [path], COLUMNS)


def test_no_usable_row_is_said(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": 1}\n')
    with pytest.raises(DataError, match=r"holds no row with a prompt and qualities of .*left out: 1 .*line 1"):
        evaluate_log({"fixed": Fixed()}, [path], COLUMNS, on_bad_row="skip")


class Broken:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.full(len(prompts), self.answer) if np.isscalar(self.answer) else np.array(self.answer)


@pytest.mark.parametrize("answer", [np.nan, -0.1, 1.5, [0.5], [[0.5]]])
def test_a_router_that_gives_no_win_rates_is_named(tmp_path, answer):
    path = write(tmp_path / "log.jsonl", records(5))
    with pytest.raises(InvalidArgumentError, match="router 'broken' gave"):
        evaluate_log({"broken": Broken(answer)}, [path], COLUMNS)


def test_models_that_are_equally_good_have_no_apgr(tmp_path):
    path = write(tmp_path / "log.jsonl", [{**record, STRONG: 1, WEAK: 1} for record in records(5)])
    with pytest.raises(DataError, match="must be above zero"):
        evaluate_log({"fixed": Fixed()}, [path], COLUMNS).result("log")


def test_a_log_of_few_prompts_is_noted_as_a_table_of_few_prompts_is(tmp_path):
    found = evaluate_log({"fixed": Fixed()}, [write(tmp_path / "log.jsonl", records(60))], COLUMNS)
    notes = " ".join(found.result("log", resamples=50).notes)
    assert "60 prompts are few" in notes
    assert "50 resamples are too few" in notes


def test_a_constant_router_is_noted(tmp_path):
    found = evaluate_log({"c": Broken(0.5)}, [write(tmp_path / "log.jsonl", records(100))], COLUMNS).result("log")
    assert found.routers[0].metrics.apgr_routellm.value == 0.5
    assert any("decides nothing" in note for note in found.notes)


def test_too_many_domains_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("routellm_fast.evaluation.streaming.quality.MAX_DOMAINS", 1)
    with pytest.raises(DataError, match="is it the right column"):
        evaluate_log({"fixed": Fixed()}, [write(tmp_path / "log.jsonl", records(5))], COLUMNS)


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="different names"):
        LogColumns("prompt", "weak")
    with pytest.raises(InvalidArgumentError, match="on_bad_row"):
        evaluate_stream({}, [], COLUMNS, on_bad_row="ignore")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="size of 0"):
        evaluate_stream({}, [], COLUMNS, chunk_rows=0)
    with pytest.raises(InvalidArgumentError, match="do not add"):
        StreamedQuality.of(["a"], COLUMNS).merge(StreamedQuality.of(["b"], COLUMNS))


def test_quality_scales_are_guessed(tmp_path):
    for factor, expected in ((1, 1.0), (9, 10.0), (60, 100.0), (300, 300.0)):
        rows = [{**record, STRONG: float(record[STRONG]) * factor} for record in records(300)]  # type: ignore[arg-type]
        found = evaluate_log({}, [write(tmp_path / "log.jsonl", rows)], COLUMNS)
        assert found.result("log", resamples=5).max_quality == expected
    assert isinstance(found.result("log", max_quality=1000, resamples=5), BenchmarkResult)


# Scoring


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"])
def test_scores_come_back_to_the_bit(tmp_path, suffix):
    found = records(50)
    found[7]["prompt"] = f'0.25 a "quoted", cell,\nof two lines {chr(0x4E2D)}'
    path, out = write(tmp_path / "log.jsonl", found), tmp_path / f"out{suffix}"
    assert score_log(Fixed(), path, out, keep=["prompt", "kind"], chunk_rows=7) == (50, 0)
    rows = list(read_part(log_parts(out, part_bytes=1 << 30)[0]))
    assert [row.values["prompt"] for row in rows] == [record["prompt"] for record in found]
    assert list(rows[0].values) == ["prompt", "kind", "win_rate"]
    expected = Fixed().win_rates([str(record["prompt"]) for record in found])
    np.testing.assert_array_equal(np.array([row.values["win_rate"] for row in rows], dtype=np.float32), expected)
    before = out.read_bytes()
    score_log(Fixed(), path, out, keep=["prompt", "kind"])
    if suffix != ".parquet":  # whose pages follow the chunks
        assert out.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {path.name, out.name}


def test_scoring_names_or_counts_bad_rows_and_leaves_nothing_half_written(tmp_path):
    path, out = bad_log(tmp_path, "{", '{"prompt": null}'), tmp_path / "out.jsonl"
    with pytest.raises(DataError, match="line 11"):
        score_log(Fixed(), path, out)
    assert not out.exists()
    assert score_log(Fixed(), path, out, on_bad_row="skip") == (20, 2)
    assert len(out.read_text().splitlines()) == 20
    with pytest.raises(DataError, match="there is no column 'id'"):
        score_log(Fixed(), write(tmp_path / "good.jsonl", records(3)), tmp_path / "none.csv", keep=["id"])
    (tmp_path / "good.jsonl").unlink()
    assert {file.name for file in tmp_path.iterdir()} == {path.name, out.name}


def test_scoring_refuses_places_and_columns_it_cannot_write(tmp_path):
    path = write(tmp_path / "log.jsonl", records(3))
    with pytest.raises(DataError, match="must be a table"):
        score_log(Fixed(), path, tmp_path / "out.txt")
    with pytest.raises(DataError, match="cannot be written"):
        score_log(Fixed(), path, tmp_path / "nowhere" / "out.csv")
    with pytest.raises(InvalidArgumentError, match="is the log itself"):
        score_log(Fixed(), path, path)
    with pytest.raises(InvalidArgumentError, match="'win_rate'"):
        score_log(Fixed(), path, tmp_path / "out.csv", keep=["win_rate"])


def test_a_lone_surrogate_survives_json(tmp_path):
    path, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"prompt": "0.5 \\ud800"}\n')
    assert score_log(Fixed(), path, out) == (1, 0)
    assert json.loads(out.read_text())["prompt"] == "0.5 \ud800"
    for name in ("out.csv", "out.parquet"):
        with pytest.raises(DataError, match="surrogates not allowed"):
            score_log(Fixed(), path, tmp_path / name)
