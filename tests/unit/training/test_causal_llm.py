from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import routellm_fast as rf
from routellm_fast import data
from routellm_fast.cli import main
from routellm_fast.errors import CheckpointMismatchError, InvalidArgumentError
from routellm_fast.routers.causal.loading import load_folder
from routellm_fast.routers.causal.prompt import PromptFormat
from routellm_fast.training.causal_llm import scores_of, train
from routellm_fast.training.configs import CausalLLMConfig
from tests.support.causal_builders import checkpoint

FORMAT = PromptFormat.routellm("Rate.", "Q: {question}\nS:")
CONFIG = CausalLLMConfig(max_epochs=8, max_tokens=96, learning_rate=0.02, held_out_share=0.3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that knows no score tokens."""
    folder = checkpoint(tmp_path_factory.mktemp("causal") / "base", texts=False, scores=False)
    scored = load_folder(folder)
    return checkpoint(
        tmp_path_factory.mktemp("causal") / "plain", texts=False, scores=False, rows=scored.output_rows - 5
    )


def battles():
    rows = [
        data.Battle(f"{'prove' if hard else 'say'} {number}", f"g{number}", "s", "w", target, "src")
        for number in range(40)
        for hard in [number % 2 == 0]
        for target in [1.0 if hard else 0.5 if number % 4 == 1 else 0.0]
    ]
    return data.to_arrays(rows)


def test_scores_are_bins_of_the_strong_models_lead():
    assert scores_of(np.array([0.0, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0])).tolist() == [5, 5, 4, 3, 2, 1, 1]


@pytest.mark.parametrize("method", ["rows", "lora"])
def test_it_learns_what_is_hard_and_repeats_itself(base, method):
    if method == "lora":
        pytest.importorskip("peft")
    config = CausalLLMConfig(
        method=method, max_epochs=8, max_tokens=96, learning_rate=0.02, held_out_share=0.3, batch_size=8
    )
    model = load_folder(base)
    stages = []
    trained, again = (
        train(battles(), model, FORMAT, config, strong_models=frozenset({"s"}), on_progress=stages.append)
        for _ in range(2)
    )
    losses = [epoch["held_out_loss"] for epoch in trained.metrics["epochs"]]
    assert min(losses) < losses[0]
    assert trained.metrics["held_out_by_source"]["src"]["battles"] == trained.metrics["battles"]["held_out"]
    assert {stage.done <= stage.total for stage in stages} == {True}
    assert again.win_rates.tolist() == trained.win_rates.tolist()
    router = trained.router(model_pair=rf.routers.base.ModelPair("s", "w"))
    found = router.win_rates(battles().prompts)
    np.testing.assert_allclose(found, trained.win_rates, atol=1e-4)
    hard = np.array([prompt.startswith("prove") for prompt in battles().prompts])
    assert found[hard].mean() > found[~hard].mean()
    assert model.output_rows + 5 == router.model.output_rows


@pytest.mark.parametrize("method", ["rows", "lora"])
def test_an_interrupted_training_goes_on_to_the_same_router(base, tmp_path, method):
    if method == "lora":
        pytest.importorskip("peft")
    config = CausalLLMConfig(
        method=method, max_epochs=4, patience=4, max_tokens=96, learning_rate=0.02, held_out_share=0.3, batch_size=8
    )
    model, folder = load_folder(base), tmp_path / "state"

    def run(**changes):
        return train(battles(), model, FORMAT, config, strong_models=frozenset({"s"}), **changes)

    class Interrupted(Exception):
        pass

    def stop(stage):
        if stage.name.startswith("epoch 3") and "loss" not in stage.name:
            raise Interrupted

    whole = run()
    with pytest.raises(Interrupted):
        run(checkpoint=folder, on_progress=stop)
    assert len(json.loads((folder / "checkpoint.json").read_text())["state"]["epochs"]) == 2
    went_on = run(checkpoint=folder)
    assert went_on.metrics["epochs"] == whole.metrics["epochs"]
    assert went_on.win_rates.tolist() == whole.win_rates.tolist()
    assert went_on.model.files() == whole.model.files()
    with pytest.raises(CheckpointMismatchError, match="learning_rate"):
        train(
            battles(), model, FORMAT, replace(config, learning_rate=0.01), strong_models=frozenset({"s"}),
            checkpoint=folder,
        )  # fmt: skip


def test_what_cannot_be_trained(base):
    strong = frozenset({"s"})
    with pytest.raises(InvalidArgumentError, match="must be in float32"):
        train(battles(), load_folder(base, dtype="bfloat16"), FORMAT, CONFIG, strong_models=strong)
    with pytest.raises(InvalidArgumentError, match="between a strong and a weak model"):
        train(battles(), load_folder(base), FORMAT, CONFIG, strong_models=frozenset({"s", "w"}))
    model = load_folder(base)
    model.module.lm_head.weight.data.fill_(float("inf"))
    with pytest.raises(InvalidArgumentError, match="diverged"):
        train(battles(), model, FORMAT, CONFIG, strong_models=strong)


@pytest.mark.parametrize(
    "wrong",
    [{"method": "full"}, {"truncation": "start"}, {"max_epochs": 0}, {"learning_rate": 0.0}, {"held_out_share": 1.0},
     {"seed": -1}],
    ids=str,
)  # fmt: skip
def test_settings_that_break_a_rule(wrong):
    with pytest.raises(InvalidArgumentError):
        CausalLLMConfig(**wrong)


def test_tied_embeddings_and_a_text_that_spells_scores(base, tmp_path):
    config = json.loads((base / "config.json").read_text())
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    from safetensors.numpy import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_folder(tmp_path)
    spelled = PromptFormat.routellm("Rate from [[1]] to [[5]].", "Q: {question}\nS:")
    strong = frozenset({"s"})
    with pytest.raises(InvalidArgumentError, match="spells score tokens"):
        train(battles(), model, spelled, CONFIG, strong_models=strong)
    trained = train(battles(), model, FORMAT, CONFIG, strong_models=strong)
    trained.router(model_pair=rf.routers.base.ModelPair("s", "w")).save(tmp_path / "router")
    loaded = rf.load_router(tmp_path / "router")
    np.testing.assert_allclose(loaded.win_rates(battles().prompts), trained.win_rates, atol=1e-4)


def test_command_line(base, tmp_path, capsys):
    golden = tmp_path / "golden.csv"
    with golden.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "s", "w", "other"])
        for number in range(40):
            writer.writerow([f"prompt {number}", 1, number % 2, 0])
        writer.writerow(["run by another only", "", "", 1])
    arguments = [
        "train", "causal_llm", "--golden", str(golden), "--base", str(base), "--strong-model", "s", "--weak-model", "w",
        "--max-epochs", "2", "--max-tokens", "400", "--out", str(tmp_path / "router"), "--created", "2026-01-01",
        "--max-prompts", "30", "--metrics", str(tmp_path / "metrics.json"),
    ]  # fmt: skip
    assert main(arguments) == 0, capsys.readouterr().err
    loaded = rf.load_router(tmp_path / "router")
    assert loaded.kind == "causal_llm"
    assert loaded.threshold_for(0.5) <= 1.0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["base_files"]) == {"config.json", "model.safetensors"}
    assert "causal_llm router: s against w" in loaded.model_card
    capsys.readouterr()
    for wrong in (["--base", str(tmp_path / "absent")], ["--method", "full"], ["--system", str(tmp_path / "absent")]):
        assert main([*arguments, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
