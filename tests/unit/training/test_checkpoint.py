from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactWriteError,
    CheckpointMismatchError,
)
from routellm_fast.training import Progress, train_ensemble
from routellm_fast.training.checkpoint import LAYOUT, Checkpoint, digest_of
from routellm_fast.training.epoch_loop import EarlyStopping
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization, train
from tests.support.builders import static_embedder
from tests.support.manifests import editable_manifest
from tests.support.mf_builders import CONFIG, EMBEDDER, battles

pytest.importorskip("torch")


def assert_same(one: TrainedMatrixFactorization, two: TrainedMatrixFactorization) -> None:
    for name in ("P", "W", "w", "logits"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert one.metrics == two.metrics


def epochs_into(seen: list[Progress]) -> object:
    return interrupt_after(0, seen)


def interrupt_after(count: int, seen: list[Progress]) -> object:
    def on_progress(progress: Progress) -> None:
        if progress.epoch:  # not as prompts are embedded
            seen.append(progress)
            if len(seen) == count:
                raise KeyboardInterrupt

    return on_progress


@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize("refit", [False, True])
def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, epoch: int, refit: bool) -> None:
    whole = train(battles(), EMBEDDER, CONFIG, refit=refit)
    seen: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        train(
            battles(),
            EMBEDDER,
            CONFIG,
            refit=refit,
            checkpoint=tmp_path / "c",
            on_progress=interrupt_after(epoch, seen),
        )
    rest: list[Progress] = []
    resumed = train(battles(), EMBEDDER, CONFIG, refit=refit, checkpoint=tmp_path / "c", on_progress=epochs_into(rest))
    assert rest[0].epoch == epoch + 1, "what was done is not done again"
    assert_same(whole, resumed)
    again: list[Progress] = []
    assert_same(
        whole,
        train(battles(), EMBEDDER, CONFIG, refit=refit, checkpoint=tmp_path / "c", on_progress=epochs_into(again)),
    )
    assert not again, "a training that is done stays done"


def test_an_interrupted_refit_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    seen: list[Progress] = []
    whole = train(battles(), EMBEDDER, CONFIG, refit=True, on_progress=epochs_into(seen))
    first = sum(progress.part == 1 for progress in seen)
    assert first < len(seen)
    assert all(np.isnan(progress.held_out_loss) for progress in seen[first:])
    with pytest.raises(KeyboardInterrupt):
        train(
            battles(),
            EMBEDDER,
            CONFIG,
            refit=True,
            checkpoint=tmp_path / "c",
            on_progress=interrupt_after(first + 1, []),
        )
    assert_same(whole, train(battles(), EMBEDDER, CONFIG, refit=True, checkpoint=tmp_path / "c"))


def test_an_interrupted_ensemble_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = train_ensemble(battles(), EMBEDDER, CONFIG, members=2)
    first = len(whole.metrics["members"][0]["epochs"])
    seen: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(
            battles(),
            EMBEDDER,
            CONFIG,
            members=2,
            checkpoint=tmp_path / "c",
            on_progress=interrupt_after(first + 1, seen),
        )
    assert (seen[-1].part, seen[-1].parts) == (2, 2)
    assert_same(whole, train_ensemble(battles(), EMBEDDER, CONFIG, members=2, checkpoint=tmp_path / "c"))


def test_a_checkpoint_without_an_interruption_changes_nothing(tmp_path: Path) -> None:
    assert_same(train(battles(), EMBEDDER, CONFIG), train(battles(), EMBEDDER, CONFIG, checkpoint=tmp_path / "c"))
    assert {file.name for file in (tmp_path / "c" / "training").iterdir()} == {
        "checkpoint.json",
        "weights.safetensors",
    }


def test_a_checkpoint_of_other_settings_or_data_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    with pytest.raises(
        CheckpointMismatchError, match=r"learning_rate differ \(learning_rate is 0\.02 there, 0\.01 here"
    ):
        train(battles(), EMBEDDER, replace(CONFIG, learning_rate=0.01), checkpoint=folder)
    with pytest.raises(CheckpointMismatchError, match="data"):
        train(battles(seed=1), EMBEDDER, CONFIG, checkpoint=folder)
    other = static_embedder(surface_features=("constant",))
    with pytest.raises(CheckpointMismatchError, match="embeddings differ"):
        train(battles(), other, CONFIG, checkpoint=folder)


def test_damaged_checkpoints_are_named_errors(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    weights, manifest = (folder / "training" / name for name in ("weights.safetensors", "checkpoint.json"))
    content, text = weights.read_bytes(), manifest.read_text()
    weights.write_bytes(content[:-9])
    with pytest.raises(ArtifactIntegrityError, match="truncated"):
        train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    weights.write_bytes(content)
    for old, new in (
        ('"best_loss"', '"worst_loss"'),
        ('"best_epoch": ', '"best_epoch": 1'),
        ('"seed": 3', '"seed": 4'),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new))
        with pytest.raises(ArtifactIntegrityError, match="damaged or was edited"):
            train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    manifest.write_text(text)
    edited = editable_manifest(manifest)
    manifest.write_text(json.dumps(edited).replace('"best_loss"', '"worst_loss"'))
    with pytest.raises(ArtifactFormatError, match="no state of an mf training"):
        train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    manifest.write_text(text[:-20])
    with pytest.raises(ArtifactError, match="not valid JSON"):
        train(battles(), EMBEDDER, CONFIG, checkpoint=folder)


def test_a_place_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c" / "training").mkdir(parents=True)
    (tmp_path / "c" / "training" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactWriteError, match="left alone"):
        train(battles(), EMBEDDER, CONFIG, checkpoint=tmp_path / "c")
    assert (tmp_path / "c" / "training" / "thesis.txt").read_text() == "mine"


def test_a_saved_tensor_must_fit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", {"trainer": "x", "config": {"a": (1, 2)}})
    assert checkpoint.load() is None
    checkpoint.save({"step": 3}, {"t": np.arange(3, dtype=np.float32)})
    loaded = checkpoint.load()
    assert loaded is not None
    state, tensors = loaded
    assert state == {"step": 3}
    found = checkpoint.tensor(tensors, "t", np.zeros(3, dtype=np.float32))
    found[0] = 7.0  # its own memory
    for name, like in (("t", np.zeros(4, dtype=np.float32)), ("t", np.zeros(3)), ("u", np.zeros(3))):
        with pytest.raises(ArtifactFormatError, match=f"{name} must be"):
            checkpoint.tensor(tensors, name, like)
    assert json.loads((tmp_path / "c" / LAYOUT.manifest_file).read_text())["identity"]["trainer"] == "x"


def test_digests_tell_arrays_apart() -> None:
    same = np.arange(6)
    assert digest_of(same, ["a"]) == digest_of(same.copy(), ["a"])
    assert len({digest_of(same), digest_of(same.reshape(2, 3)), digest_of(same.astype(float)), digest_of("a")}) == 4


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match="epoch 2 is nan: the training diverged"):
        EarlyStopping(3).is_best(2, float("nan"))


def test_early_stopping_keeps_the_first_of_equals() -> None:
    stopping = EarlyStopping(2)
    found = [stopping.is_best(epoch, loss) for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5], start=1)]
    assert found == [True, True, False, False]
    assert (stopping.best_epoch, stopping.is_over(3), stopping.is_over(4)) == (2, False, True)
