"""Trainings that are killed and go on from their checkpoints."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from routellm_fast import ModelPair, data
from routellm_fast.errors import ArtifactError
from routellm_fast.training.checkpoint import Checkpoint
from routellm_fast.training.progress import Progress
from tests.attack.harness import Attack, Campaign
from tests.attack.kills import killed, random_delay_s
from tests.attack.operations import dying, operations
from tests.support.mf_builders import CONFIG, EMBEDDER, PAIR, battles

# Trains, keeping a checkpoint in the first folder, and saves the router to the second.
Train = Callable[[Path, Path, Callable[[Progress], None]], None]
_PAIR: Final = ModelPair("big", "small")


def _under_kills(campaign: Campaign, train: Train) -> None:
    """Kill trainings and let them go on, until there were `count` kills and the last training has ended."""
    torch = pytest.importorskip("torch")
    work = campaign.folder / "work"
    # The first part of an mf training keeps its state in a folder of this name; the others in any.
    state, out, journal = (work / name for name in ("state/training", "out", "journal"))

    def run() -> None:
        def note(progress: Progress) -> None:
            if progress.epoch:
                with journal.open("ab") as file:
                    file.write(b"%d\n" % progress.epoch)

        torch.set_num_threads(1)  # a forked child has none of its parent's threads
        train(state, out, note)

    def start_anew() -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        journal.touch()

    start_anew()
    run()  # in this process, so that its children have all modules
    whole, epochs = _contents(out), _noted(journal)
    start_anew()
    began_s = time.monotonic()
    most = operations(run, work)
    whole_s = time.monotonic() - began_s
    assert _contents(out) == whole, "two trainings gave different routers"
    kills = 0
    while kills < campaign.count:
        start_anew()
        in_this_training = 0
        while True:
            kept, noted = _epochs_kept(state), len(_noted(journal))
            if kills < campaign.count and campaign.rng.random() < 0.5:
                was_killed = killed(dying(run, work, campaign.rng.randint(1, most)), 600.0)
            else:
                was_killed = killed(run, random_delay_s(campaign.rng, whole_s) if kills < campaign.count else 600.0)
            trained = _noted(journal)[noted:]
            assert _epochs_kept(state) >= kept, f"the checkpoint held {kept} epochs, and holds fewer"
            assert trained == list(range(kept + 1, kept + 1 + len(trained))), f"after {kept} epochs came {trained}"
            if not was_killed:
                break
            kills += 1
            in_this_training += 1
            campaign.tally["kills after which work was carried over"] += _epochs_kept(state) > 0
        assert _contents(out) == whole, "a training that was killed gave another router"
        # A kill costs the epoch under way at most: one that was trained and not kept, or not noted.
        assert len(_noted(journal)) <= len(epochs) + in_this_training
        left = [path.name for path in work.iterdir() if path.name not in ("journal", "out", "state")]
        assert not left, f"left beside the router: {left}"
        campaign.tally["trainings that ended with the same bytes"] += 1


def _epochs_kept(state: Path) -> int:
    try:
        return len(json.loads((state / "checkpoint.json").read_bytes())["state"]["epochs"])
    except FileNotFoundError:
        return 0


def _noted(journal: Path) -> list[int]:
    return [int(line) for line in journal.read_bytes().split()]


def _contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def _rows() -> data.Battles:
    hard = (("prove" if number % 2 else "say", number) for number in range(40))
    return data.to_arrays(
        [data.Battle(f"{word} {number}", f"g{number}", *_PAIR, float(word == "prove"), "own") for word, number in hard]
    )


def _mf(campaign: Campaign) -> None:
    pytest.importorskip("torch")
    from routellm_fast.training.matrix_factorization import train

    def run(state: Path, out: Path, note: Callable[[Progress], None]) -> None:
        trained = train(battles(), EMBEDDER, CONFIG, checkpoint=state.parent, on_progress=note)
        trained.router(model_pair=PAIR, embedder=EMBEDDER).save(out)

    _under_kills(campaign, run)


def _bert(campaign: Campaign) -> None:
    for needed in ("onnxruntime", "onnxscript", "transformers"):
        pytest.importorskip(needed)
    from routellm_fast.training import bert
    from routellm_fast.training.configs import BertConfig
    from tests.support.transformer_builders import encoder_folder

    base = encoder_folder(campaign.folder / "base", pooling=None)
    config = BertConfig(max_tokens=16, learning_rate=3e-3, batch_size=16, max_epochs=4, held_out_share=0.3)

    def run(state: Path, out: Path, note: Callable[[Progress], None]) -> None:
        trained = bert.train(
            _rows(), base, config, strong_models=frozenset({"big"}), checkpoint=state, on_progress=note
        )
        trained.router(model_pair=_PAIR).save(out)

    _under_kills(campaign, run)


def _causal_llm(campaign: Campaign) -> None:
    pytest.importorskip("transformers")
    from routellm_fast.routers.causal.loading import load_folder
    from routellm_fast.routers.causal.prompt import PromptFormat
    from routellm_fast.training.causal_llm import train
    from routellm_fast.training.configs import CausalLLMConfig
    from tests.support.causal_builders import checkpoint

    rows = load_folder(checkpoint(campaign.folder / "scored", texts=False, scores=False)).output_rows
    model = load_folder(checkpoint(campaign.folder / "base", texts=False, scores=False, rows=rows - 5))
    form = PromptFormat.routellm("Rate.", "Q: {question}\nS:")
    config = CausalLLMConfig(max_epochs=4, max_tokens=96, learning_rate=0.02, held_out_share=0.3, batch_size=8)

    def run(state: Path, out: Path, note: Callable[[Progress], None]) -> None:
        trained = train(
            _rows(), model, form, config, strong_models=frozenset({"big"}), checkpoint=state, on_progress=note
        )
        trained.router(model_pair=_PAIR).save(out)

    _under_kills(campaign, run)


def _damaged(campaign: Campaign) -> None:
    """Flip bits of checkpoints, cut them and write over parts of them, and load them."""
    pytest.importorskip("torch")
    from routellm_fast.training.matrix_factorization import train

    folder = campaign.folder / "state"
    train(battles(), EMBEDDER, CONFIG, checkpoint=folder)
    files = sorted((folder / "training").iterdir())
    contents = {file: file.read_bytes() for file in files}
    identity = json.loads(contents[folder / "training" / "checkpoint.json"])["identity"]
    checkpoint = Checkpoint(folder / "training", identity)
    expected = checkpoint.load()
    for _ in range(campaign.count):
        file = campaign.rng.choice(files)
        damaged = bytearray(contents[file])
        place = campaign.rng.randrange(len(damaged))
        kind = campaign.rng.choice(["flip", "cut", "zeros"])
        if kind == "flip":
            damaged[place] ^= 1 << campaign.rng.randrange(8)
        elif kind == "cut":
            del damaged[place:]
        else:
            damaged[place : place + 512] = bytes(len(damaged[place : place + 512]))
        file.write_bytes(damaged)
        try:
            found = checkpoint.load()
        except ArtifactError as error:
            campaign.tally[f"refused: {type(error).__name__}"] += 1
        else:
            assert _is_same(found, expected), f"{kind} at byte {place} of {file.name} was not noticed"
            campaign.tally["the same in spite of it"] += 1
        file.write_bytes(contents[file])


def _is_same(found: Any, expected: Any) -> bool:
    if found is None or found[0] != expected[0] or set(found[1]) != set(expected[1]):
        return False
    return all(np.array_equal(found[1][name], expected[1][name]) for name in expected[1])


def _attack(kind: str, whole: int, brief: int, run: Callable[[Campaign], None]) -> Attack:
    return Attack(
        name=f"training {kind}, under kills",
        tried=f"a training of a tiny {kind} router is killed again and again, and goes on each time.",
        held="no epoch that a checkpoint held is trained again; in the end the router has the bytes of an undisturbed "
        "one.",
        unit="kills",
        whole=whole,
        brief=brief,
        run=run,
    )


ATTACKS = [
    _attack("mf", 60, 2, _mf),
    _attack("bert", 16, 0, _bert),  # it ends with the export of a graph, which takes seconds
    _attack("causal_llm", 40, 1, _causal_llm),
    Attack(
        name="damaging checkpoints",
        tried="a bit of a training's checkpoint is flipped, 512 bytes of it are zeroed, or its end is cut off.",
        held="the checkpoint is refused by a named error, or holds what it held.",
        unit="damages",
        whole=5_000,
        brief=100,
        run=_damaged,
    ),
]
