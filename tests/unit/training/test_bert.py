from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import data
from routellm_fast.errors import CheckpointMismatchError
from routellm_fast.training import bert
from routellm_fast.training.bert import classes_of
from routellm_fast.training.bert_command import train_bert
from routellm_fast.training.configs import BertConfig
from tests.support.processes import assert_refused, run_cli
from tests.support.transformer_builders import classifier_folder, encoder_folder

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("transformers")

CONFIG = BertConfig(max_tokens=16, learning_rate=3e-3, batch_size=16, max_epochs=12, patience=12, held_out_share=0.3)
STRONG = frozenset({"big"})
WORDS = ["the", "hello", "write", "a", "b", "c", "1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("hf") / "encoder", pooling=None)


def rows(count: int = 240) -> list[data.Battle]:
    """The big model wins on prompts that ask for a proof, and ties or loses on others."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        words = list(rng.choice(WORDS, size=rng.integers(1, 6)))
        hard = index % 2 == 0
        prompt = " ".join(["prove", *words] if hard else words) + f" {index}"
        target = 1.0 if hard else float(rng.choice([0.0, 0.5]))
        swap = rng.random() < 0.5
        models = ("small", "big") if swap else ("big", "small")
        found.append(data.Battle(prompt, prompt, *models, 1.0 - target if swap else target, "test"))
    return found


def test_shares_of_wins_become_classes() -> None:
    expected = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(classes_of(np.array([1.0, 0.75, 0.5, 0.25, 0.0])), expected)


def test_it_learns_which_prompts_need_the_strong_model(base: Path) -> None:
    seen = []
    trained = bert.train(data.to_arrays(rows()), base, CONFIG, strong_models=STRONG, on_progress=seen.append)
    epochs = trained.metrics["epochs"]
    assert len(seen) == len(epochs)
    assert seen[-1].max_epochs == 12
    best = epochs[trained.metrics["best_epoch"] - 1]
    assert best["held_out_class_loss"] < 0.7 * epochs[0]["train_class_loss"]
    assert best["held_out_accuracy"] > 0.9
    router = trained.router(model_pair=rf.ModelPair("big", "small"))
    assert router.max_tokens == 16
    hard, easy = router.win_rates(["prove the b", "the b"])
    assert hard > 0.7 > 0.3 > easy


def test_an_interrupted_training_goes_on_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    battles = data.to_arrays(rows(60))
    config = replace(CONFIG, max_epochs=3)
    whole = bert.train(battles, base, config, strong_models=STRONG)

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            bert.train(battles, base, config, strong_models=STRONG, checkpoint=tmp_path / "c", on_progress=stop)
    resumed = bert.train(battles, base, config, strong_models=STRONG, checkpoint=tmp_path / "c")
    assert resumed.model == whole.model
    assert resumed.metrics == whole.metrics
    other = replace(config, learning_rate=0.02)
    with pytest.raises(CheckpointMismatchError, match="learning_rate"):
        bert.train(battles, base, other, strong_models=STRONG, checkpoint=tmp_path / "c")


def test_a_classifier_can_be_trained_on(tmp_path: Path) -> None:
    path = classifier_folder(tmp_path / "classifier")
    config = replace(CONFIG, max_epochs=1, learning_rate=1e-12)
    trained = bert.train(data.to_arrays(rows(40)), path, config, strong_models=STRONG)
    before = rf.routers.BertRouter.from_pretrained(path).win_rates(["prove", "hello"])
    after = trained.router(model_pair=rf.ModelPair("a", "b")).win_rates(["prove", "hello"])
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_battles_of_other_models_and_wrong_settings_are_refused(base: Path) -> None:
    other = [*rows(20), data.Battle("hello", "hello", "other", "small", 1.0, "test")]
    with pytest.raises(rf.InvalidArgumentError, match="found other against small"):
        bert.train(data.to_arrays(other), base, CONFIG, strong_models=STRONG)
    for wrong in ({"batch_size": 0}, {"learning_rate": 0.0}, {"held_out_share": 1.0}, {"max_tokens": 2}, {"seed": -1}):
        with pytest.raises(rf.InvalidArgumentError):
            BertConfig(**wrong)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    with (tmp_path / "battles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model_a", "model_b", "winner"])
        for row in rows(80):
            winner = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}[row.target]
            writer.writerow([row.prompt, row.model_a, row.model_b, winner])
        writer.writerow(["hello", "other", "small", "model_a"])
    with (tmp_path / "golden.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "big", "small", "third", "fourth"])
        for row in rows(30):
            writer.writerow([row.prompt, 1, 0 if "prove" in row.prompt else 1, 0, 0])
    return tmp_path


def test_the_command_writes_a_router(files: Path, base: Path) -> None:
    arguments = ["--base", str(base), "--max-epochs", "1", "--max-tokens", "16", "--strong-model", "big"]
    arguments += ["--weak-model", "small", "--created", "2026-11-24", "--metrics", str(files / "metrics.json")]
    sources = ["--battles", str(files / "battles.csv"), "--golden", str(files / "golden.csv")]
    found = run_cli("train", "bert", "--out", str(files / "router"), *arguments, *sources)
    assert found.returncode == 0, found.stderr
    assert "bert router of big against small" in found.stdout
    assert found.stderr == ""
    metrics = json.loads((files / "metrics.json").read_text())
    assert metrics["data"]["battles"]["left_out"] == {"of other models": 1}
    assert metrics["data"]["golden"]["battles"] == 30
    router = rf.load_router(files / "router")
    assert router.kind == "bert"
    assert router.threshold_for(0.5) > 0
    assert "Prompts are read by `encoder`, fine-tuned." in router.model_card
    assert router.provenance["training"]["best_epoch"] == 1
    shown = run_cli("info", str(files / "router"))
    assert shown.returncode == 0
    assert "bert" in shown.stdout
    assert run_cli("route", "--router", str(files / "router"), "prove the").returncode == 0


def test_more_models_may_count_as_strong(files: Path, base: Path) -> None:
    found = train_bert(
        battles=[files / "battles.csv"],
        base=base,
        model_pair=rf.ModelPair("big", "small"),
        also_strong=["other"],
        out=files / "router",
        config=replace(CONFIG, max_epochs=1),
        max_prompts=40,
    )
    assert found["options"]["strong_models"] == ["big", "other"]
    assert 20 <= found["prompts"] <= 60


def test_bad_input_is_one_line(files: Path, base: Path) -> None:
    common = ["train", "bert", "--out", str(files / "router"), "--base", str(base)]
    battles = ["--battles", str(files / "battles.csv")]
    pair = ["--strong-model", "big", "--weak-model", "small"]
    assert_refused(run_cli(*common, *battles, "--strong-model", "huge", "--weak-model", "small"), "huge")
    assert_refused(run_cli(*common, *battles, *pair, "--also-weak", "big"), "cannot be both")
    assert_refused(run_cli(*common, *battles, *pair, "--checkpoint", str(files / "router" / "c")), "lies in the router")
    assert_refused(run_cli(*common, *pair), "at least one file")
    wrong = ["train", "bert", "--out", str(files / "router"), "--base", str(files)]
    assert_refused(run_cli(*wrong, *battles, *pair), "lacks config.json")
