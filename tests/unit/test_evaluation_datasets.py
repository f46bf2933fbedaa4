from __future__ import annotations

import json
from pathlib import Path

import pytest

from routellm_fast import DataError, ModelPair
from routellm_fast.evaluation import read_benchmarks, read_gsm8k, read_mmlu, read_mt_bench

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
            {"question_id": 1, "turns": ["write", "again"]},
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
