from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, ModelPair, UnknownModelError, data
from routellm_fast.data.names import check_known, known_aliases
from routellm_fast.data.split import group_of, held_out, numbered
from routellm_fast.tables import read_table


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def labelled(**scores: float) -> data.Labelled:
    return data.Labelled("p", "g", "src", scores)


def test_battles_from_csv_drop_ties_and_name_models(tmp_path):
    path = write(
        tmp_path / "b.csv",
        "prompt,model_a,model_b,winner\nhello,x,y,model_a\nhello,x,y,tie\n"
        '"two\nlines",Mixtral-8x7B-Instruct-v0.1,y,model_b\n',
    )
    battles = data.read_battles(path)
    assert [(b.prompt, b.model_a, b.target) for b in battles] == [
        ("hello", "x", 1.0),
        ("two\nlines", "mistralai/Mixtral-8x7B-Instruct-v0.1", 0.0),
    ]
    assert {b.source for b in battles} == {"b"}
    assert [b.target for b in data.read_battles(path, drop_ties=False)] == [1.0, 0.5, 0.0]


def test_gzip_jsonl_prompt_ids_and_groups(tmp_path):
    prompts = write(tmp_path / "p.csv", "prompt_id,prompt_group,prompt\n1,g1,hello\n2,,bye\n")
    path = tmp_path / "b.jsonl.gz"
    rows = [{"prompt_id": i, "model_a": "x", "model_b": "y", "winner": "model_a", "source": "arena"} for i in "12"]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    battles = data.read_battles(path, prompts=data.read_prompts(prompts))
    assert [(b.prompt, b.group) for b in battles] == [("hello", "g1"), ("bye", group_of("bye"))]
    assert battles[0].source == "b/arena"


def test_rows_of_other_licenses_stay_out(tmp_path):
    path = write(
        tmp_path / "b.csv",
        "prompt,license,model_a,model_b,winner\nyes,mit,x,y,model_a\nno,unstated,x,y,model_a\n",
    )
    assert [b.prompt for b in data.read_battles(path, licenses={"mit"})] == ["yes"]
    with pytest.raises(DataError, match="no row of license apache"):
        data.read_battles(path, licenses={"apache-2.0"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,model_a,model_b,winner\nhi,x,y,nobody\n", r"line 2: winner must be one of .* found 'nobody'"),
        ("prompt,model_a,winner\nhi,x,model_a\n", r"line 2: there is no column 'model_b'"),
        ("prompt,model_a,model_b,winner\nhi,x,y\n", r"line 2: found 3 cells, expected 4"),
        ("prompt_id,model_a,model_b,winner\n1,x,y,tie\n", r"line 2: there is a prompt_id but no prompt"),
        ("text,model_a,model_b,winner\n1,x,y,tie\n", r"line 2: expected a column prompt"),
        ("prompt,model_a,model_b,winner\nhi,,y,model_a\n", r"line 2: model_a and model_b must be names"),
        ("prompt,prompt\nhi,x\n", r"line 1: a column is named twice"),
        ('prompt,model_a,model_b,winner\n"a\nb",x,y,model_a\nhi,x,y,?\n', r"line 4: winner"),
        ("prompt,model_a,model_b,winner\n", "holds no rows"),
        ("", "holds no rows"),
    ],
)
def test_bad_battles_name_file_and_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as error:
        data.read_battles(write(tmp_path / "b.csv", text))
    assert "b.csv" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.jsonl", b'{"a": 1}\n{"a"', "line 2: not valid JSON"),
        ("b.jsonl", b"[1]\n", "line 1: must be a JSON object"),
        ("b.csv", b"prompt\n\xff\n", "not UTF-8"),
        ("b.csv.gz", b"plain text", "cannot be read"),
        ("b.csv.gz", gzip.compress(b"prompt\nhello\n" * 99, mtime=0)[:-9], "cannot be read"),
        ("b.parquet", b"", "cannot be read"),
        ("b.txt", b"", "must be a table"),
    ],
)
def test_damaged_files_are_data_errors(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(read_table(tmp_path / name))


def test_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        data.read_battles(tmp_path / "none.csv")


def test_long_fields_are_read(tmp_path):
    path = write(tmp_path / "b.csv", f"prompt,model_a,model_b,winner\n{'x' * 200_000},x,y,model_a\n")
    assert len(data.read_battles(path)[0].prompt) == 200_000


def test_golden_labels_know_auxiliary_columns(tmp_path):
    path = write(
        tmp_path / "g.csv",
        "question_id,task,category,question,options_json,m1,m2,m1|total_cost\n"
        '7,algebra,math,How many?,"[""one"", ""two""]",True,,0.5\n',
    )
    (row,) = data.read_golden(path)
    assert row.scores == {"m1": 1.0}
    assert row.prompt == "How many?\nA. one\nB. two\nAnswer:"
    assert row.source == "g/algebra"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,m\nhi,nan\n", r"line 2: 'm' must be a finite number, found 'nan'"),
        ("prompt,m\nhi,inf\n", r"line 2: 'm' must be a finite number"),
        ("prompt,m\nhi,good\n", r"line 2: 'm' must be a finite number, found 'good'"),
        ("prompt,task\nhi,t\n", "no column with scores"),
        ("question,options_json,m\nhi,{,1\n", r"line 2: options_json must be a JSON list"),
        ("prompt,Yi-34B,yi-34b\nhi,1,0\n", r"line 2: two columns hold scores of 'yi-34b'"),
    ],
)
def test_bad_golden_labels_name_the_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        data.read_golden(write(tmp_path / "g.csv", text))


def test_pairs_count_ties_as_half_unless_dropped():
    rows = [labelled(a=1.0, b=0.0, c=1.0)]
    outcomes = {(b.model_a, b.model_b): b.target for b in data.pairs(rows)}
    assert outcomes == {("a", "b"): 1.0, ("a", "c"): 0.5, ("b", "c"): 0.0}
    assert len(data.pairs(rows, drop_ties=True)) == 2


def test_caps_choose_by_seed_and_not_by_order():
    row = labelled(**{f"m{i}": float(i) for i in range(6)})
    chosen = [(b.model_a, b.model_b) for b in data.pairs([row], cap_per_prompt=4)]
    again = [(b.model_a, b.model_b) for b in data.pairs([row, row], cap_per_prompt=4)]
    assert len(chosen) == 4
    assert len(again) == 4
    assert chosen != [(b.model_a, b.model_b) for b in data.pairs([row], cap_per_prompt=4, seed=1)]
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        data.pairs([row], cap_per_prompt=0)


def test_a_pair_is_kept_whatever_the_cap():
    row = labelled(**{f"m{i}": float(i) for i in range(6)})
    kept = data.pairs([row], cap_per_prompt=1, always=ModelPair("m5", "m0"))
    assert ("m0", "m5") in {(b.model_a, b.model_b) for b in kept}
    assert len(kept) == 2


def test_gaps_say_by_how_much():
    pair = ModelPair("s", "w")
    rows = [labelled(s=1.0, w=0.0), labelled(s=1.0, w=1.0), labelled(s=0.0, w=1.0), labelled(s=1.0)]
    assert [b.target for b in data.gaps(rows, pair)] == [1.0, 0.5, 0.0]
    (judged,) = data.gaps([labelled(s=10.0, w=7.0)], pair, score_range=9.0)
    assert judged.target == pytest.approx(0.5 + 3.0 / 18.0)


def test_balanced_sources_weigh_the_same():
    rows = [data.Battle("p", "g", "a", "b", 1.0, source) for source in "xxxy"]
    weights: dict[str, float] = {}
    for battle in data.balanced(rows, 3.0):
        weights[battle.source] = weights.get(battle.source, 0.0) + battle.weight
    assert weights == pytest.approx({"x": 1.5, "y": 1.5})


def test_arrays_do_not_depend_on_the_order_of_rows():
    rows = [data.Battle(p, f"g{p}", a, b, 1.0, "s") for p in "pqr" for a, b in ("xy", "yz")]
    first, second = data.to_arrays(rows), data.to_arrays(rows[::-1])
    assert first.prompts == second.prompts
    for name in ("prompt", "model_a", "model_b", "target", "source", "weight"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    with pytest.raises(DataError, match="no battle"):
        data.to_arrays([])


def three_battles() -> data.Battles:
    rows = [
        data.Battle("z", "g1", "s", "w", 1.0, "src"),
        data.Battle("a", "g2", "w", "s", 0.5, "src"),
        data.Battle("m", "g3", "other", "w", 1.0, "src"),
        data.Battle("z", "g1", "w", "s", 1.0, "src"),
    ]
    return data.to_arrays(rows, keep_order=True)


def test_arrays_may_keep_the_order_of_rows_and_of_first_prompts():
    battles = three_battles()
    assert battles.prompts == ("z", "a", "m")
    assert battles.groups == ("g1", "g2", "g3")
    assert battles.prompt.tolist() == [0, 1, 2, 0]
    assert [battles.models[index] for index in battles.model_a] == ["s", "w", "other", "w"]
    assert battles.target.tolist() == [1.0, 0.5, 1.0, 1.0]


def test_battles_of_some_prompts_have_only_these_prompts():
    battles = three_battles().of_prompts(np.array([True, False, True]))
    assert battles.prompts == ("z", "m")
    assert battles.groups == ("g1", "g3")
    assert battles.prompt.tolist() == [0, 1, 0]
    assert battles.target.tolist() == [1.0, 1.0, 1.0]


def test_the_share_of_a_pair_is_the_strong_model_s_whichever_way_round():
    of_pair, share = three_battles().of_pair(ModelPair("s", "w"))
    assert of_pair.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(share, [1.0, 0.5, np.nan, 0.0])
    assert not three_battles().of_pair(ModelPair("s", "absent"))[0].any()


def test_prompts_that_differ_in_form_only_share_a_group():
    assert group_of("  Hello\n WORLD ") == group_of("hello world")
    assert group_of("hello world") != group_of("hello worlds")


def test_split_is_by_group_and_stable():
    groups = [f"g{i // 2}" for i in range(2000)]
    out = held_out(groups, 0.2, seed=3)
    np.testing.assert_array_equal(out[::2], out[1::2])
    assert 0.15 < out.mean() < 0.25
    np.testing.assert_array_equal(out, held_out([*groups, "new"], 0.2, seed=3)[:-1])
    assert (out != held_out(groups, 0.2, seed=4)).any()
    # What is held out for one use is a random part for another: a fifth of it is held out there too.
    both = out & held_out(groups, 0.2, seed=3, use="other")
    assert both.sum() / out.sum() == pytest.approx(0.2, abs=4 * (0.16 / out.sum()) ** 0.5)


def test_aliases_lead_to_names_not_to_aliases():
    aliases = known_aliases()
    assert aliases["mistralai/mixtral-8x7b-chat"] == "mistralai/Mixtral-8x7B-Instruct-v0.1"
    assert not set(aliases.values()) & set(aliases)


def test_the_arena_s_spellings_of_a_tie(tmp_path):
    spellings = ("tie", "tie (bothbad)", "bothbad", "both_bad")
    lines = [f"hello {i},x,y,{winner}" for i, winner in enumerate(spellings)]
    path = write(tmp_path / "b.csv", "\n".join(["prompt,model_a,model_b,winner", *lines]) + "\n")
    assert [b.target for b in data.read_battles(path, drop_ties=False)] == [0.5] * 4
    assert not data.read_battles(path)


def test_weights_and_judges_are_read(tmp_path):
    path = write(
        tmp_path / "b.csv",
        "prompt,model_a,model_b,winner,weight,judge\na,x,y,model_a,2.5,gpt-4\nb,x,y,model_b,,\n",
    )
    counts = data.Counts()
    assert [(b.weight, b.judge) for b in data.read_battles(path, counts=counts)] == [(2.5, "gpt-4"), (1.0, "")]
    assert counts.judges == {"gpt-4": 1}


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "much"])
def test_weights_that_are_no_weights_name_the_line(tmp_path, weight):
    path = write(tmp_path / "b.csv", f"prompt,model_a,model_b,winner,weight\nhi,x,y,model_a,{weight}\n")
    with pytest.raises(DataError, match=r"line 2: 'weight' must be"):
        data.read_battles(path)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_arrays_refuse_weights_that_are_none(weight):
    with pytest.raises(InvalidArgumentError, match="finite and above 0"):
        data.to_arrays([data.Battle("p", "g", "a", "b", 1.0, "s", weight)])
    with pytest.raises(InvalidArgumentError, match="too far apart"):
        data.to_arrays([data.Battle(p, "g", "a", "b", 1.0, "s", w) for p, w in (("p", 1e-60), ("q", 1.0))])


def test_what_is_left_out_is_counted(tmp_path):
    lines = [
        *(f"hello {i},mit,x,y,model_a" for i in range(2)),
        *("hello many,mit,x,y,model_a" for _ in range(5)),
        *("hello 0,mit,x,y,tie", "hello 0,mit,Yi-34B,yi-34b,model_a", "h,mit,x,y,model_a", "hello 0,gpl,x,y,model_a"),
    ]
    path = write(tmp_path / "b.csv", "\n".join(["prompt,license,model_a,model_b,winner", *lines]) + "\n")
    counts = data.Counts()
    kept = data.read_battles(path, licenses={"mit"}, cap_per_prompt=3, min_prompt_chars=5, counts=counts)
    assert len(kept) == 5
    assert counts.to_json() == {
        "rows": 11,
        "battles": 5,
        "left_out": {
            "beyond the cap": 2,
            "of a model against itself": 1,
            "of another license": 1,
            "on a short prompt": 1,
            "tie": 1,
        },
        "licenses": {"mit": 10},
        "judges": {},
    }
    assert counts.reasons().startswith("2 beyond the cap, 1 of a model against itself")


def test_golden_rows_that_make_no_pair_are_counted(tmp_path):
    path = write(tmp_path / "g.csv", "prompt,m1,m2,m3\nlong enough,1,0,1\nlong enough too,1,,\nempty row,,,\nx,1,0,1\n")
    counts = data.Counts()
    rows = data.read_golden(path, min_prompt_chars=3, counts=counts)
    assert len(data.pairs(rows, drop_ties=True, cap_per_prompt=1, counts=counts)) == 1
    assert counts.left_out == {
        "on which no model ran": 1,
        "on a short prompt": 1,
        "on which one model ran": 1,
        "tie": 1,
        "beyond the cap": 1,
    }
    assert (counts.rows, counts.battles) == (4, 1)


def test_soft_pairs_say_by_how_much():
    rows = [labelled(a=10.0, b=1.0, c=4.0), labelled(a=5.0, b=5.0)]
    hard, soft = data.pairs(rows), data.pairs(rows, soft=True)
    assert [b.target for b in hard] == [1.0, 1.0, 0.0, 0.5]
    assert [b.target for b in soft] == pytest.approx([1.0, 0.5 + 6 / 18, 0.5 - 3 / 18, 0.5])
    wider = data.pairs(rows, soft=True, score_range=10.0)
    assert wider[0].target == pytest.approx(0.95)
    (gap,) = data.gaps(rows[:1], ModelPair("a", "c"), score_range=10.0)
    assert gap.target == wider[1].target
    assert [b.target for b in data.pairs([labelled(a=1.0, b=1.0)], soft=True)] == [0.5]
    for wrong in (1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentError, match="score_range must be finite and at least 9"):
            data.pairs(rows, soft=True, score_range=wrong)


def test_groups_with_a_prompt_in_common_are_one():
    """Else g2's other prompt would be trained on while the shared one is held out with g1."""
    rows = [
        ("same", "g1"),
        ("same", "g2"),
        ("other of g2", "g2"),
        ("alone", "g3"),
        ("of form", "g4"),
        ("Of  Form", "g5"),
    ]
    assert data.joined_groups(rows) == {
        "same": "g1",
        "other of g2": "g1",
        "alone": "g3",
        "of form": "g4",
        "Of  Form": "g4",
    }
    arrays = data.to_arrays([data.Battle(p, g, "a", "b", 1.0, "s") for p, g in rows])
    by_prompt = dict(zip(arrays.prompts, arrays.groups, strict=True))
    assert by_prompt["other of g2"] == by_prompt["same"]
    chain = [(str(i // 2), f"g{(i + 1) // 2:03}") for i in range(1, 400)]
    assert set(data.joined_groups(chain).values()) == {"g001"}


def test_centred_sources_have_one_mean():
    def rows(source: str, targets: list[float], turned: bool = False, weight: float = 1.0) -> list[data.Battle]:
        pair = ("b", "a") if turned else ("a", "b")
        return [data.Battle(f"p{i}", f"g{i}", *pair, t, source, weight) for i, t in enumerate(targets)]

    battles = [
        *rows("high", [1.0, 1.0, 0.5, 1.0]),
        *rows("low", [0.0, 0.5, 0.0, 1.0]),
        *rows("turned", [0.0, 1.0, 1.0, 0.5], turned=True, weight=2.0),
        data.Battle("q", "g", "a", "c", 0.25, "high"),
    ]
    found = data.centred(battles)
    target = np.array([1.0 - b.target if b.model_a == "b" else b.target for b in found])
    before = np.array([1.0 - b.target if b.model_a == "b" else b.target for b in battles])
    mean = np.average(before[:12], weights=[b.weight for b in battles[:12]])
    for start in (0, 4, 8):
        assert target[start : start + 4].mean() == pytest.approx(mean, abs=1e-12)
        order = np.argsort(before[start : start + 4], kind="stable")
        assert (np.diff(target[start : start + 4][order]) >= 0.0).all(), "a shift keeps the order"
    assert ((target >= 0.0) & (target <= 1.0)).all()
    assert found[-1].target == 0.25, "a pair in one source has nothing to agree with"
    assert data.centred([]) == []


def test_evaluation_prompts_taint_their_group(tmp_path):
    (tmp_path / "evals" / "mt_bench").mkdir(parents=True)
    write(tmp_path / "evals" / "mmlu.csv", "prompt,big\nHow  MANY?,True\n")
    write(tmp_path / "evals" / "mt_bench" / "question.jsonl", json.dumps({"turns": ["Write.", "Again."]}))
    write(tmp_path / "evals" / "mt_bench" / "judgements.jsonl", json.dumps({"question_id": 1}))
    groups = data.evaluation_groups([tmp_path / "evals"])
    assert groups == {group_of("how many?"), group_of("write.")}
    battles = [
        data.Battle(p, g, "a", "b", 1.0, "s")
        for p, g in (("how many?", "g1"), ("How many, in words?", "g1"), ("Again.", "g2"), ("write. ", "g3"))
    ]
    assert data.overlaps(battles, groups) == [True, True, False, True]
    for name, text in (("none.csv", "text,big\nhi,1\n"), ("turns.jsonl", '{"turns": "hi"}')):
        with pytest.raises(DataError, match=r"has no prompts|must be a list of texts"):
            data.evaluation_groups([write(tmp_path / name, text)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no table"):
        data.evaluation_groups([tmp_path / "empty"])


def test_golden_rows_have_weights(tmp_path):
    path = write(tmp_path / "g.csv", "prompt,m1,m2,weight\np,1,0,2.5\nq,1,0,\n")
    rows = data.read_golden(path)
    assert [row.weight for row in rows] == [2.5, 1.0]
    assert [b.weight for b in data.pairs(rows)] == [2.5, 1.0]
    assert [b.weight for b in data.gaps(rows, ModelPair("m1", "m2"))] == [2.5, 1.0]
    with pytest.raises(DataError, match="line 2: 'weight' must be above 0"):
        data.read_golden(write(tmp_path / "g.csv", "prompt,m1,m2,weight\np,1,0,-1\n"))


@pytest.mark.parametrize(
    ("number", "words"), [("1" + "0" * 400, "must be a finite number"), ("1e308", "between -1e.100 and 1e.100")]
)
def test_numbers_beyond_float64_or_near_its_end_are_refused(tmp_path, number, words):
    path = tmp_path / "g.jsonl"
    path.write_text(f'{{"prompt": "hi", "m": {number}, "n": 0}}\n')
    with pytest.raises(DataError, match=f"line 1: 'm' .*{words}"):
        data.read_golden(path)


def test_groups_are_numbered_as_they_first_appear():
    count, group = numbered(["b", "a", "b", "c"])
    assert count == 3
    assert group.tolist() == [0, 1, 0, 2]
    assert numbered([])[0] == 0


def test_of_many_names_some_are_listed_and_similar_ones_are_named() -> None:
    known = [f"model-{number:03}" for number in range(100)]
    with pytest.raises(UnknownModelError) as error:
        check_known(["model-0990"], known)
    assert "model-019 … (100 in all). Did you mean model-099" in str(error.value)
    assert "model-020" not in str(error.value)
    with pytest.raises(UnknownModelError, match=r"only of: a, b\.$"):
        check_known(["z"], ["b", "a"])
