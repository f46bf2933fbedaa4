from __future__ import annotations

import csv
import itertools
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import DataError, InvalidArgumentError, ModelPair, OutputExistsError, UnknownModelError, data
from routellm_fast.data.digest import file_digest
from routellm_fast.data.split import group_of
from routellm_fast.errors import ArtifactWriteError
from routellm_fast.training import (
    GapRegressionConfig,
    MatrixFactorizationConfig,
    SimilarityWeightedConfig,
    train_mf,
    train_sw_ranking,
)
from tests.support.builders import static_embedder
from tests.support.mf_builders import CONFIG, EMBEDDER, PAIR
from tests.support.processes import assert_refused, run_cli, started_cli
from tests.support.transformer_builders import encoder_folder

pytest.importorskip("torch")

WORDS = ["prove", "the", "hello", "write", "a", "b", "c", "1"]


def prompts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(4, 9))) + f" {i}" for i in range(count)]


def write(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    rows: list[list[object]] = [["prompt", "model_a", "model_b", "winner", "license", "judge"]]
    for i, prompt in enumerate(prompts(90)):
        winner = "tie (bothbad)" if i % 9 == 0 else "model_a" if "prove" in prompt else "model_b"
        rows.append([prompt, "s", "w", winner, "mit", "gpt-4"])
    return write(tmp_path / "battles.csv", rows)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    rows: list[list[object]] = [["prompt", "s", "w", "other"]]
    rows += [[f"{prompt} golden", 9, 3 + i % 7, i % 10] for i, prompt in enumerate(prompts(40))]
    return write(tmp_path / "golden.csv", rows)


def train(tmp_path: Path, out: str = "out", **arguments: object) -> dict[str, object]:
    common = {"embedder": EMBEDDER, "model_pair": PAIR, "config": CONFIG, "created": "2026-11-24", "force": True}
    return train_mf(**{**common, **arguments}, out=tmp_path / out)  # type: ignore[arg-type]


def test_the_record_says_what_became_of_every_row(tmp_path: Path, battles: Path, golden: Path) -> None:
    found = train(tmp_path, battles=[battles], golden=[golden], licenses={"mit"}, cap_per_prompt=1)
    assert found["data"] == {
        "battles": {
            "rows": 90,
            "battles": 80,
            "left_out": {"tie": 10},
            "licenses": {"mit": 90},
            "judges": {"gpt-4": 80},
        },
        "golden": {
            "rows": 40,
            "battles": 80,  # the pair's own, and one more a prompt
            "left_out": {"beyond the cap": 40},
            "licenses": {},
            "judges": {},
        },
    }
    assert found["files"] == {path.name: file_digest(path) for path in (battles, golden)}
    router = rf.load_router(tmp_path / "out", digest=str(found.pop("digest")))
    assert router.provenance["training"] == json.loads(json.dumps(found))
    kept = train(tmp_path, battles=[battles], golden=[golden], keep_ties=True)
    assert kept["data"]["battles"]["battles"] == 90  # type: ignore[index]


def test_the_model_card_states_the_record(tmp_path: Path, battles: Path, golden: Path) -> None:
    found = train(tmp_path, battles=[battles], golden=[golden], licenses={"mit"}, refit=True)
    card = rf.load_router(tmp_path / "out").model_card
    assert card.startswith("# mf router: s against w\n")
    for words in (
        "`routellm-fast train mf` on 2026-11-24",
        "| battles | 90 | 80 | 10 tie | 90 mit | 80 gpt-4 |",
        f"`{file_digest(battles)}`",
        "rows of these licences only: mit",
        f"* epochs: {found['best_epoch']} of",
        "* learning_rate: 0.02",
        "trained again on all battles",
        "Sources without stated licences",
        *(f"| {of['loss']:.4f} |" for of in found["held_out_by_source"].values()),  # type: ignore[attr-defined]
    ):
        assert words in card, words
    train(tmp_path, "two", battles=[battles], ensemble=2, refit=True, created="")
    card = rf.load_router(tmp_path / "two").model_card
    assert "Made by `routellm-fast train mf`.\n" in card
    assert "* ensemble: 2 members, seeds 3, 4; logits are their mean" in card
    assert "without stated licences" not in card
    sw = {"embedder": static_embedder(surface_features=()), "config": SimilarityWeightedConfig(num_tiers=2)}
    found = train_sw_ranking(battles=[battles], model_pair=PAIR, out=tmp_path / "sw", **sw, min_prompt_chars=1)
    card = rf.load_router(tmp_path / "sw").model_card
    assert f"Battles: 90, on {found['prompts']} distinct prompts" in card
    assert f"log loss {found['held_out']['loss']:.4f} nats" in card
    assert found["options"] == {"cap_per_prompt": 8, "min_prompt_chars": 1}


def test_options_change_what_is_learned_and_are_recorded(tmp_path: Path, golden: Path, battles: Path) -> None:
    weights = set()
    for index, options in enumerate(
        ({}, {"soft_labels": True}, {"centre_sources": True}, {"refit": True}, {"ensemble": 2})
    ):
        found = train(tmp_path, str(index), battles=[battles], golden=[golden], **options)
        weights.add((tmp_path / str(index) / "weights.safetensors").read_bytes())
        for name, value in options.items():
            assert found["options"].get(name, value) == value  # type: ignore[attr-defined]
        assert ("refit" in found) == ("refit" in options)
        assert ("members" in found) == ("ensemble" in options)
    assert len(weights) == 5
    router = rf.load_router(tmp_path / "4")
    assert 0.0 < router.win_rate("prove the a") < 1.0


def test_battles_on_short_prompts_are_left_out(tmp_path: Path, battles: Path) -> None:
    short = sum(len(prompt) < 20 for prompt in prompts(90))
    found = train(tmp_path, battles=[battles], min_prompt_chars=20, keep_ties=True)
    assert 0 < short < 90
    assert found["data"]["battles"]["left_out"] == {"on a short prompt": short}  # type: ignore[index]
    assert found["options"]["min_prompt_chars"] == 20  # type: ignore[index]


def test_a_pair_goes_by_any_known_name(tmp_path: Path) -> None:
    names = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    rows = [["prompt", "model_a", "model_b", "winner"], *([p, *names, "model_a"] for p in prompts(40))]
    train(tmp_path, battles=[write(tmp_path / "b.csv", rows)], model_pair=ModelPair(*names))
    router = rf.load_router(tmp_path / "out")
    assert router.model_pair == names


def test_the_router_is_refused_what_it_could_not_learn_from(tmp_path: Path, battles: Path, golden: Path) -> None:
    header = ["prompt", "model_a", "model_b", "winner"]
    ties = write(tmp_path / "ties.csv", [header, *([p, "s", "w", "tie"] for p in prompts(9))])
    with pytest.raises(DataError, match=r"no battle is left .*ties: 9 rows, left out 9 tie.*--keep-ties"):
        train(tmp_path, battles=[ties])
    with pytest.raises(DataError, match="all 9 battles are ties"):
        train(tmp_path, battles=[ties], keep_ties=True)
    lonely = write(tmp_path / "lonely.csv", [["prompt", "s"], *([p, 1] for p in prompts(9))])
    with pytest.raises(DataError, match="left out 9 on which one model ran.*scores of two models"):
        train(tmp_path, golden=[lonely])
    itself = write(tmp_path / "itself.csv", [header, *([p, "s", "s", "model_a"] for p in prompts(9))])
    with pytest.raises(DataError, match="9 of a model against itself"):
        train(tmp_path, battles=[itself])
    with pytest.raises(UnknownModelError, match=r"no battle of 'othe', only of: other, s, w\. Did you mean other\?"):
        train(tmp_path, golden=[golden], model_pair=ModelPair("s", "othe"))
    with pytest.raises(InvalidArgumentError, match=r"battles\.csv is given twice"):
        train(tmp_path, battles=[battles, battles])
    with pytest.raises(InvalidArgumentError, match="at least 1 member"):
        train(tmp_path, battles=[battles], ensemble=0)
    assert not (tmp_path / "out").exists()


def test_places_are_checked_before_the_training(tmp_path: Path, battles: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    seen: list[object] = []
    with pytest.raises(ArtifactWriteError, match="left alone"):
        train(tmp_path, "mine", battles=[battles], on_progress=seen.append)
    with pytest.raises(ArtifactWriteError, match="left alone"):
        train_sw_ranking(battles=[battles], embedder=EMBEDDER, model_pair=PAIR, out=battles)
    for checkpoint in (tmp_path / "out", tmp_path / "out" / "checkpoint"):
        with pytest.raises(InvalidArgumentError, match="lies in the router directory"):
            train(tmp_path, battles=[battles], checkpoint=checkpoint, on_progress=seen.append)
    assert not seen


def test_a_checkpoint_that_would_stay_empty_is_refused(tmp_path: Path, battles: Path) -> None:
    arguments = {"embedder": EMBEDDER, "model_pair": PAIR, "out": tmp_path / "out", "checkpoint": tmp_path / "c"}
    with pytest.raises(InvalidArgumentError, match="leave out the checkpoint"):
        train_sw_ranking(battles=[battles], **arguments)


def test_one_prompt_id_is_one_prompt(tmp_path: Path) -> None:
    rows = [["prompt_id", "model_a", "model_b", "winner"], *([i, "s", "w", "model_a"] for i in range(40))]
    battles = write(tmp_path / "b.csv", rows)
    first = write(tmp_path / "p.csv", [["prompt_id", "prompt"], *([i, p] for i, p in enumerate(prompts(40)))])
    same = write(tmp_path / "q.csv", [["prompt_id", "prompt"], [0, prompts(1)[0]]])
    train(tmp_path, battles=[battles], prompts=[first, same])
    other = write(tmp_path / "r.csv", [["prompt_id", "prompt"], [0, "another"]])
    with pytest.raises(DataError, match=r"r\.csv: prompt_id '0' is another prompt"):
        train(tmp_path, battles=[battles], prompts=[first, other])


def test_sources_of_one_name_are_told_apart(tmp_path: Path, battles: Path) -> None:
    (tmp_path / "more").mkdir()
    rows = [["prompt", "model_a", "model_b", "winner"], ["hello", "s", "w", "model_a"]]
    second = write(tmp_path / "more" / "battles.csv", rows)
    found = train(tmp_path, battles=[battles, second])
    assert set(found["data"]) == {"battles", str(second)}  # type: ignore[call-overload]
    assert set(found["files"]) == {"battles.csv", "battles.csv (2)"}  # type: ignore[call-overload]


def test_evaluation_prompts_are_left_out_or_refused(tmp_path: Path, battles: Path) -> None:
    held = prompts(90)
    evaluation = write(tmp_path / "evals.csv", [["prompt"], [held[1].upper()], [held[2]], ["another"]])
    found = train(tmp_path, battles=[battles], evaluation=[evaluation])
    assert found["evaluation"] == {
        "files": {"evals.csv": file_digest(evaluation)},
        "prompts": 3,
        "battles_left_out": 2,
    }
    plain = train(tmp_path, "plain", battles=[battles])
    assert "evaluation" not in plain
    assert plain["prompts"] == found["prompts"] + 2  # type: ignore[operator]
    assert "2 battles were left out" in rf.load_router(tmp_path / "out").model_card
    with pytest.raises(DataError, match=r"2 of 80 battles are on prompts of the evaluation sets.* in battles: '"):
        train(tmp_path, battles=[battles], evaluation=[evaluation], refuse_overlap=True)


def test_embeddings_of_battles_that_are_left_out_go_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [f"{prompt} and more" for prompt in prompts(60)]
    embedder = static_embedder(surface_features=())
    won = ["prove" in text for text in texts]
    columns = {
        "model_a": ["s"] * 60,
        "model_b": ["w"] * 60,
        "prompt": [json.dumps([text]) for text in texts],
        "winner_model_a": [int(flag) for flag in won],
        "winner_model_b": [int(not flag) for flag in won],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "arena.parquet")
    np.save(tmp_path / "e.npy", embedder.embed(texts))
    evaluation = write(tmp_path / "evals.csv", [["prompt"], [texts[5]]])
    common = {
        "battles": [tmp_path / "arena.parquet"],
        "model_pair": PAIR,
        "config": SimilarityWeightedConfig(num_tiers=2),
        "evaluation": [evaluation],
        "force": True,
    }
    found = train_sw_ranking(**common, embedder=None, embeddings=[tmp_path / "e.npy"], out=tmp_path / "rows")
    assert (found["battles"], found["evaluation"]["battles_left_out"]) == (59, 1)
    train_sw_ranking(**common, embedder=embedder, out=tmp_path / "texts")
    one, two = rf.load_router(tmp_path / "rows"), rf.load_router(tmp_path / "texts")
    vectors = embedder.embed(texts[:9])
    np.testing.assert_allclose(
        one.win_rates_from_embeddings(vectors), two.win_rates_from_embeddings(vectors), atol=1e-6
    )
    np.save(tmp_path / "e.npy", embedder.embed(texts[1:]))
    with pytest.raises(DataError, match="59 embeddings but 60 battles"):
        train_sw_ranking(**common, embedder=None, embeddings=[tmp_path / "e.npy"], out=tmp_path / "rows")


def cli(tmp_path: Path, out: str, *arguments: str) -> list[str]:
    if not (tmp_path / "embedder").exists():
        EMBEDDER.save(tmp_path / "embedder")
    command = ["train", "mf", "--out", str(tmp_path / out), "--embedder", str(tmp_path / "embedder")]
    command += ["--strong-model", "s", "--weak-model", "w", "--created", "2026-11-24", "--d", "4"]
    return [*command, "--learning-rate", "0.02", "--max-epochs", "4", "--patience", "4", *arguments]


def test_the_command_line_has_all_of_it(tmp_path: Path, battles: Path, golden: Path) -> None:
    evaluation = write(tmp_path / "evals.csv", [["prompt"], [prompts(2)[1]]])
    options = ["--battles", str(battles), "--golden", str(golden), "--evaluation", str(evaluation), "--keep-ties"]
    options += ["--soft-labels", "--centre-sources", "--refit", "--ensemble", "2", "--checkpoint", str(tmp_path / "c")]
    run = run_cli(*cli(tmp_path, "out", *options))
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "  battles: 90 battles of 90 rows; left out: none\n" in run.stdout
    assert "  left out for evaluation prompts: 1 battles\n" in run.stdout
    assert "  held out loss: " in run.stdout
    training = rf.load_router(tmp_path / "out").provenance["training"]
    assert training["options"] == {
        "balance_sources": True,
        "cap_per_prompt": 8,
        "centre_sources": True,
        "keep_ties": True,
        "other_pairs_weight": 1.0,
        "soft_labels": True,
    }
    assert len(training["members"]) == 2
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"member-1", "member-2"}
    refused = run_cli(*cli(tmp_path, "no", *options, "--refuse-overlap"))
    assert_refused(refused, "1 of ", "evaluation sets")
    assert not (tmp_path / "no").exists()


def test_an_interrupted_command_says_how_to_go_on_and_does(tmp_path: Path, battles: Path) -> None:
    checkpoint = tmp_path / "c"
    options = ["--battles", str(battles), "--checkpoint", str(checkpoint), "--max-epochs", "40", "--patience", "40"]
    command = cli(tmp_path, "out", *options, "--batch-size", "2")
    with started_cli(*command) as process:
        deadline = time.monotonic() + 60
        while not (checkpoint / "training" / "checkpoint.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert f"interrupted; {checkpoint} holds each finished epoch: give the same command again to continue" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()
    state = json.loads((checkpoint / "training" / "checkpoint.json").read_text())["state"]
    assert 1 <= len(state["epochs"]) < 40
    run = run_cli(*command)
    assert run.returncode == 0, run.stderr
    config = replace(CONFIG, learning_rate=0.02, max_epochs=40, patience=40, batch_size=2, seed=0, noise=0.1)
    train(tmp_path, "whole", battles=[battles], config=replace(config, held_out_share=0.1))
    contents = [{f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("out", "whole")]
    assert contents[0] == contents[1]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Battles on 900 prompts: enough to calibrate on those held out."""
    rows = [["prompt", "model_a", "model_b", "winner"]]
    rows += [[p, "s", "w", "model_a" if "prove" in p else "model_b"] for p in prompts(900)]
    return write(tmp_path / "many.csv", rows)


@pytest.mark.parametrize("config", [CONFIG, GapRegressionConfig(held_out_share=0.3, seed=3)])
def test_a_router_is_calibrated_on_prompts_that_it_has_not_learned_from(
    tmp_path: Path, many: Path, battles: Path, config: object
) -> None:
    embedder = static_embedder(surface_features=("constant", "log_tokens"))
    found = train(tmp_path, battles=[many], config=config, embedder=embedder)
    router = rf.load_router(tmp_path / "out")
    calibration = router.calibration
    out = data.held_out([group_of(p) for p in prompts(900)], 0.3, seed=3)
    unseen = [p for p, is_out in zip(prompts(900), out, strict=True) if is_out]
    assert calibration is not None
    assert calibration.dataset == f"{len(unseen)} prompts held out of the training"
    assert calibration.prompt_count == len(unseen) == found["battles"]["held_out"]  # type: ignore[index]
    share = (router.win_rates(unseen) >= router.threshold_for(0.5)).mean()
    assert share == pytest.approx(0.5, abs=0.03)
    train(tmp_path, battles=[battles], config=config, embedder=embedder)
    few = rf.load_router(tmp_path / "out").calibration
    assert few is not None
    assert few.dataset == "the prompts trained on"


def test_after_a_refit_no_prompt_is_left_to_calibrate_on(tmp_path: Path, many: Path) -> None:
    train(tmp_path, battles=[many], refit=True)
    calibration = rf.load_router(tmp_path / "out").calibration
    assert calibration is not None
    assert calibration.dataset == "the prompts trained on"


def test_the_verdict_is_of_held_out_battles_of_the_pair(tmp_path: Path, many: Path) -> None:
    embedder = static_embedder(surface_features=("constant", "log_tokens"))
    found = train(tmp_path, battles=[many], embedder=embedder, config=GapRegressionConfig(length_weight=0.0))
    verdict = found["verdict"]
    assert verdict["battles"] == found["battles"]["held_out"]  # type: ignore[index]
    assert verdict["against_constant"] == verdict["against_length"] == "better"  # type: ignore[index]
    assert verdict["constant_loss"] > verdict["loss"]  # type: ignore[index]
    assert found["method"] == "gap_regression"
    card = rf.load_router(tmp_path / "out").model_card
    assert "## Results on prompts held out\n\nVerdict: better than a constant, better than prompt length." in card
    assert "also told when to stop" not in card


def test_the_config_and_the_embedder_choose_the_method(tmp_path: Path, many: Path) -> None:
    able, plain = static_embedder(surface_features=("constant", "log_tokens")), static_embedder(surface_features=())
    arguments = {"battles": [many], "config": None}
    assert train(tmp_path, **arguments, embedder=able)["method"] == "gap_regression"
    assert train(tmp_path, **arguments, embedder=able, keep_ties=True)["method"] == "gradient_descent"
    assert train(tmp_path, **arguments, embedder=plain)["method"] == "gradient_descent"
    regression = {"battles": [many], "config": GapRegressionConfig()}
    with pytest.raises(InvalidArgumentError, match=r"needs a static embedder .*constant and log_tokens"):
        train(tmp_path, **regression, embedder=plain)
    with pytest.raises(InvalidArgumentError, match="refit, ensemble does nothing in gap regression"):
        train(tmp_path, **regression, embedder=able, refit=True, ensemble=2)


def test_any_embedder_that_a_router_can_hold_will_do_for_mf(tmp_path: Path, many: Path) -> None:
    """Not only static ones."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("transformers")
    embedder = rf.OnnxEmbedder.load(encoder_folder(tmp_path / "encoder"))
    found = train(tmp_path, battles=[many], embedder=embedder, config=MatrixFactorizationConfig(d=4, max_epochs=1))
    assert found["method"] == "gradient_descent"
    assert 0.0 < rf.load_router(tmp_path / "out").win_rate("prove the a") < 1.0


def test_a_router_that_would_give_all_prompts_one_win_rate_is_not_written(tmp_path: Path) -> None:
    """Of these prompts the embedder knows no word."""
    rows = [["prompt", "model_a", "model_b", "winner"]]
    rows += [[f"zzz{i}", "s", "w", ["model_a", "model_b"][i % 2]] for i in range(90)]
    with pytest.raises(DataError, match=r"the win rate is .* for all 90 prompts"):
        train(tmp_path, battles=[write(tmp_path / "b.csv", rows)], embedder=static_embedder(surface_features=()))
    assert not (tmp_path / "out").exists()


def test_a_router_is_not_replaced_unasked(tmp_path: Path, battles: Path) -> None:
    train(tmp_path, battles=[battles], force=False)
    before = (tmp_path / "out" / "router.json").read_bytes()
    seen: list[object] = []
    with pytest.raises(OutputExistsError, match=r"out exists already.*force=True"):
        train(tmp_path, battles=[battles], force=False, on_progress=seen.append)
    assert not seen
    assert (tmp_path / "out" / "router.json").read_bytes() == before


def test_battles_of_other_models_do_not_take_the_places_of_the_pair(tmp_path: Path) -> None:
    """Sixteen models met on each prompt; of their battles one in a hundred and twenty is the pair's."""
    header: list[list[object]] = [["prompt", "model_a", "model_b", "winner"]]
    names = ["s", "w", *(f"m{k}" for k in range(14))]
    rows = [
        [prompt, a, b, "model_a" if ("prove" in prompt) == (a < b) else "model_b"]
        for prompt in prompts(60)
        for a, b in itertools.combinations(names, 2)
    ]
    found = train(tmp_path, battles=[write(tmp_path / "b.csv", header + rows)], cap_per_prompt=2)
    assert found["battles"]["train"] + found["battles"]["held_out"] == 60 * (1 + 2)  # type: ignore[index]
    assert found["verdict"]["battles"] > 0  # type: ignore[index]
    assert found["data"]["b"]["left_out"] == {"beyond the cap": 60 * 117}  # type: ignore[index]
