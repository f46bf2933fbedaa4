"""Files that a router is mapped from, and that are changed in place while it is in use."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routers import SimilarityWeightedRouter
from tests.support.sw_builders import sw_router

TEXTS = ["prove the a", "what b", ""]
BATTLES = 2000  # so that files have several pages


def overwrite(path: Path, content: bytes) -> None:
    """What cp does."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "overwritten by equal bytes": (lambda path: overwrite(path, path.read_bytes()), "it was written to"),
    "one byte changed": (lambda path: overwrite(path, path.read_bytes()[:-1] + b"\x55"), "it was written to"),
    "cut off": (lambda path: os.truncate(path, 5000), "bytes, it has 5000"),
    "emptied": (lambda path: os.truncate(path, 0), "bytes, it has 0"),
    "longer": (lambda path: os.truncate(path, 10 << 20), "bytes, it has 10485760"),
}
USES: dict[str, Callable[[SimilarityWeightedRouter], object]] = {
    "win_rate": lambda router: router.win_rate(TEXTS[0]),
    "win_rates": lambda router: router.win_rates(TEXTS),
    "route": lambda router: router.route(TEXTS[0], threshold=0.5),
    "route_batch": lambda router: router.route_batch(TEXTS, threshold=0.5),
    "win_rates_from_embeddings": lambda router: router.win_rates_from_embeddings(vectors(router)),
    "tier_ratings": lambda router: router.tier_ratings_from_embeddings(vectors(router)),
    "another pair": lambda router: router.for_pair("other-model", "weak-model").win_rate(TEXTS[0]),
    "another precision": lambda router: router.with_precision("moments"),
    "more battles": lambda router: router.add_battles(
        vectors(router), ["strong-model"] * 2, ["weak-model"] * 2, ["tie"] * 2
    ).win_rate(TEXTS[0]),
}


def vectors(router: SimilarityWeightedRouter) -> np.ndarray:
    assert router.embedder is not None
    return np.ascontiguousarray(router.embedder.embed(TEXTS[:2]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("routers")
    for precision in ("float32", "int8", "moments"):
        sw_router(precision, count=BATTLES).save(folder / precision)
    return {precision: folder / precision for precision in ("float32", "int8", "moments")}


def loaded(saved: dict[str, Path], precision: str, path: Path) -> SimilarityWeightedRouter:
    shutil.copytree(saved[precision], path)
    for file in path.iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))  # so that no change comes within one tick of a clock
    router = rf.load_router(path)
    assert isinstance(router, SimilarityWeightedRouter)
    return router


def refuses(path: Path) -> pytest.RaisesExc[rf.ArtifactIntegrityError]:
    return pytest.raises(rf.ArtifactIntegrityError, match=f"{re.escape(str(path))} was changed in place")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("precision", "name"), [("float32", "bank"), ("int8", "codes"), ("moments", "codes")])
def test_a_file_that_is_changed_in_place_is_named_and_not_scored_with(
    saved: dict[str, Path], tmp_path: Path, precision: str, name: str, change: str
) -> None:
    router = loaded(saved, precision, tmp_path / "router")
    file = tmp_path / "router" / f"{name}.safetensors"
    apply, says = CHANGES[change]
    apply(file)
    for _ in range(2):
        with refuses(file) as caught:
            router.win_rates(TEXTS)
        assert says in str(caught.value)
        assert "Load the router again" in str(caught.value)


@pytest.mark.parametrize("use", USES)
def test_whatever_is_asked_of_a_router_whose_bank_was_cut_off_is_refused(
    saved: dict[str, Path], tmp_path: Path, use: str
) -> None:
    router = loaded(saved, "int8", tmp_path / "router")
    file = tmp_path / "router" / "bank.safetensors"
    os.truncate(file, 0)
    with refuses(file):
        USES[use](router)


def test_a_router_made_of_a_loaded_one_is_refused_too(saved: dict[str, Path], tmp_path: Path) -> None:
    router = loaded(saved, "int8", tmp_path / "router").for_pair("other-model", "weak-model")
    expected = router.win_rates(TEXTS)
    file = tmp_path / "router" / "codes.safetensors"
    assert np.array_equal(router.win_rates(TEXTS), expected)
    os.truncate(file, 0)
    with refuses(file):
        router.win_rates(TEXTS)
    with refuses(file):
        pickle.dumps(router)


def test_saving_a_router_whose_bank_was_cut_off_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    router = loaded(saved, "float32", tmp_path / "router")
    file = tmp_path / "router" / "bank.safetensors"
    os.truncate(file, 0)
    with refuses(file):
        router.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_router_whose_files_are_replaced_removed_linked_or_renamed_scores_as_before(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "router"
    router = loaded(saved, "int8", path)
    expected = router.win_rates(TEXTS)
    router.save(tmp_path / "again")  # by hard links
    (path / "bank.safetensors").chmod(0o444)
    (path / "bank.safetensors").rename(path / "renamed")
    shutil.copyfile(saved["int8"] / "bank.safetensors", path / "bank.safetensors")
    (path / "renamed").unlink()
    assert np.array_equal(router.win_rates(TEXTS), expected)
    shutil.rmtree(tmp_path / "again")
    shutil.rmtree(path)
    assert np.array_equal(router.win_rates(TEXTS), expected)


def test_a_router_that_is_dropped_closes_its_files(saved: dict[str, Path], tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    router = loaded(saved, "int8", tmp_path / "router")
    assert count() == before + 2
    del router
    assert count() == before
