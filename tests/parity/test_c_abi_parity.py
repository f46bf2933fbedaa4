"""The C library against the Python routers: bit for bit, on every kind and precision."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.c_abi import c_abi
from routellm_fast.routers import MatrixFactorizationRouter, SimilarityWeightedRouter
from routellm_fast.routers.loading import SHIPPED_ROUTER
from tests.support.builders import PAIR, mf_router, mf_weights, static_embedder
from tests.support.c_library import (
    BAD_DIRECTORY,
    INVALID_ARGUMENT,
    NO_EMBEDDER,
    NOT_FOUND,
    CRouter,
    LibraryError,
    library,
)
from tests.support.calibration_builders import full_calibration
from tests.support.manifests import editable_manifest
from tests.support.sw_builders import sw_router

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "artifacts" / "v1"
THRESHOLDS = (0.0, 0.35, 0.5, 0.61, 0.7, 1.0)

TEXTS = [
    *(REPOSITORY / "examples" / "prompts.txt").read_text().splitlines(),
    "",
    " \n\t",
    "écrits { 1 } 中文 한국어 \N{GRINNING FACE} ﷺ",
    "a\0b\0",
    "x" * 5000,
    "word " * 3000,
    "é" * 40_000,
    "\N{REPLACEMENT CHARACTER}?",
    "e\u0327\u0301 \u0301\u0327",
]
BYTES = [
    b"\xff\xfe\xfd",
    b"caf\xe9 au lait?",
    b"\xe4\xb8",
    b"ok \xed\xa0\x80\xed\xb0\x80 ok",
    b"\xc0\x80\xf5\x80",
    b"a" * 3071 + b"\x80\x80\x80b",
    b"\x80" * 9000,
    b"\xf0\x9f\x98",
    *(random.Random(3).randbytes(n) for n in (1, 7, 64, 1000)),
]
ENCODED = [text.encode() for text in TEXTS] + BYTES
DECODED = TEXTS + [text.decode("utf-8", "replace") for text in BYTES]


def _saved(build: Callable[[], rf.routers.Router]) -> Callable[[Path], Path]:  # type: ignore[name-defined]
    def save(folder: Path) -> Path:
        build().save(folder / "router")
        return folder / "router"

    return save


def _shipped_sw(precision: str) -> rf.routers.Router:  # type: ignore[name-defined]
    router = rf.load_router("sw_ranking")
    assert isinstance(router, SimilarityWeightedRouter)
    return router.with_precision(precision, pca_dim=64)


CASES: dict[str, Callable[[Path], Path]] = {
    "shipped-mf": lambda _: SHIPPED_ROUTER,
    "shipped-sw": lambda _: SHIPPED_ROUTER.parent / "sw_ranking",
    "shipped-sw-int8": _saved(lambda: _shipped_sw("int8")),
    "shipped-sw-moments": _saved(lambda: _shipped_sw("moments")),
    "mf-calibrated": _saved(lambda: mf_router(calibration=full_calibration())),
    "mf-wide": _saved(
        lambda: MatrixFactorizationRouter(
            ["strong-model", "weak-model", *"cdefg"], **mf_weights(models=7, d=48, dim=333), model_pair=PAIR
        )
    ),
    "mf-float32-features": _saved(
        lambda: mf_router(
            static_embedder(
                normalize=True,
                int8=False,
                surface_features=("non_ascii_share", "digit_share", "log_lines"),
            )
        )
    ),
    "sw-blocks": _saved(lambda: sw_router(added=(9, 20, 1), same_tier="ignore")),
    "sw-routellm": _saved(lambda: sw_router(solver="routellm")),
    **{
        f"golden-{path.name}": lambda _, path=path: path  # type: ignore[misc]
        for path in sorted(GOLDEN.iterdir())
        if path.name.startswith(("mf-", "sw-"))
    },
}


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CRouter, rf.routers.Router]:  # type: ignore[name-defined]
    directory = CASES[request.param](tmp_path_factory.mktemp(request.param))
    return CRouter(directory, threads=2), rf.load_router(directory)


def _embeddings(dim: int, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(5)
    scales = 10.0 ** rng.uniform(-3, 3, size=(count, 1))
    return np.ascontiguousarray(rng.normal(size=(count, dim)) * scales, np.float32)


def test_both_say_the_same_of_a_router(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    assert ours.text("kind") == python.kind
    assert (ours.text("strong_model"), ours.text("weak_model")) == tuple(python.model_pair)
    assert ours.dim == python.dim
    assert ours.model_names == tuple(python.model_names)
    if python.calibration is None:
        with pytest.raises(LibraryError, match="no calibration"):
            ours.threshold_for(0.5)
        return
    for share in [*np.linspace(0, 1, 777), 0.1, 1 / 3]:
        assert ours.threshold_for(float(share)) == python.threshold_for(float(share))


def test_win_rates_of_embeddings_are_equal_to_the_bit(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    embeddings = _embeddings(ours.dim)
    expected = python.win_rates_from_embeddings(embeddings)
    np.testing.assert_array_equal(ours.win_rates_from_embeddings(embeddings), expected)
    one_by_one = [ours.win_rates_from_embeddings(embeddings[i : i + 1])[0] for i in range(40)]
    np.testing.assert_array_equal(one_by_one, expected[:40])


def test_win_rates_of_texts_are_equal_to_the_bit(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    if not ours.reads_text:
        with pytest.raises(LibraryError, match="reads no text") as caught:
            ours.win_rates([b"a"])
        assert caught.value.status == NO_EMBEDDER
        return
    expected = python.win_rates(DECODED)
    np.testing.assert_array_equal(ours.win_rates(ENCODED), expected)
    np.testing.assert_array_equal([ours.win_rate(text) for text in ENCODED], expected)


def test_decisions_are_equal_and_where_a_win_rate_is_uncertain_exact(
    pair: tuple[CRouter, rf.routers.Router],  # type: ignore[name-defined]
) -> None:
    ours, python = pair
    embeddings = _embeddings(ours.dim, 60)
    for threshold in THRESHOLDS:
        found, strong = ours.route_embeddings(embeddings, threshold)
        expected = python.win_rates_from_embeddings(embeddings)
        bound = getattr(python, "error_bound", 0.0)
        if bound > 0.0:
            near = np.abs(expected.astype(np.float64) - threshold) <= bound
            exact = python.exact_win_rates_from_embeddings(embeddings).astype(np.float32)
            expected = np.where(near, exact, expected)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(strong, expected.astype(np.float64) >= threshold)
        if not ours.reads_text:
            continue
        decisions = python.route_batch(DECODED, threshold, no_text="score")  # the C ABI has no such rule
        found, strong = ours.route_batch(ENCODED, threshold)
        assert found.tolist() == [decision.win_rate for decision in decisions]
        assert strong.tolist() == [decision.is_strong for decision in decisions]
        for text, decision in zip(ENCODED[:12], decisions, strict=False):
            assert ours.route(text, threshold) == (decision.win_rate, decision.is_strong)


def test_all_models_are_scored_alike(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    embeddings = _embeddings(ours.dim, 20)
    if isinstance(python, MatrixFactorizationRouter):
        expected = python.model_logits(embeddings)
    else:
        assert isinstance(python, SimilarityWeightedRouter)
        ratings = python.tier_ratings_from_embeddings(embeddings)
        expected = ratings[:, list(python.tiers.values())].astype(np.float32)
    found = np.array([ours.rank_embedding(row) for row in embeddings])
    np.testing.assert_array_equal(found, expected)
    if ours.reads_text and isinstance(python, MatrixFactorizationRouter):
        logits = python.model_logits(python.embedder.embed(DECODED))
        np.testing.assert_array_equal(np.array([ours.rank(text) for text in ENCODED]), logits)


def test_many_threads_get_the_same_from_one_router(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    embeddings = _embeddings(ours.dim, 100)
    expected = python.win_rates_from_embeddings(embeddings)
    texts = python.win_rates(DECODED) if ours.reads_text else None

    def work(_: int) -> None:
        np.testing.assert_array_equal(ours.win_rates_from_embeddings(embeddings), expected)
        if texts is not None:
            np.testing.assert_array_equal(ours.win_rates(ENCODED), texts)
        with pytest.raises(LibraryError, match="this router takes"):
            ours.win_rates_from_embeddings(np.zeros((1, ours.dim + 1), np.float32))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))


def test_bad_embeddings_are_named_as_in_python(pair: tuple[CRouter, rf.routers.Router]) -> None:  # type: ignore[name-defined]
    ours, python = pair
    for value in (np.nan, np.inf, -np.inf):
        embeddings = _embeddings(ours.dim, 5)
        embeddings[3, 1] = value
        with pytest.raises(LibraryError, match="embedding 3 has .* in column 1") as found:
            ours.win_rates_from_embeddings(embeddings)
        assert found.value.status == INVALID_ARGUMENT
        with pytest.raises(rf.InvalidEmbeddingError) as expected:
            python.win_rates_from_embeddings(embeddings)
        assert str(found.value) == str(expected.value)


def test_a_router_whose_models_are_renamed_scores_as_before() -> None:
    ours = CRouter(SHIPPED_ROUTER, strong_model="münchen-1".encode(), weak_model=b"w")
    assert (ours.text("strong_model"), ours.text("weak_model")) == ("münchen-1", "w")
    assert ours.win_rate(b"hello") == CRouter(SHIPPED_ROUTER).win_rate(b"hello")


def test_the_digest_is_that_of_the_manifest_and_versions_agree() -> None:
    content = (SHIPPED_ROUTER / "router.json").read_bytes()
    assert CRouter(SHIPPED_ROUTER).text("digest") == hashlib.sha256(content).hexdigest()
    header = c_abi().header.read_text()
    assert f"#define ROUTELLM_FAST_ABI_VERSION {library().routellm_abi_version()}\n" in header
    assert library().routellm_version().decode() == _core.__version__
    assert c_abi().library.name == f"libroutellm_fast.so.{library().routellm_abi_version()}"


def test_a_router_that_shares_the_shipped_embedder_needs_it_beside_it(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(SHIPPED_ROUTER.parent / "sw_ranking", tmp_path / "sw_ranking")
    with pytest.raises(LibraryError, match="keep the two side by side") as caught:
        CRouter(tmp_path / "sw_ranking")
    assert caught.value.status == NOT_FOUND
    rf.load_router(tmp_path / "sw_ranking").save(tmp_path / "whole")
    expected = rf.load_router("sw_ranking").win_rates(DECODED)
    np.testing.assert_array_equal(CRouter(tmp_path / "whole").win_rates(ENCODED), expected)


def test_kinds_and_directories_that_it_does_not_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="Load it with the Python package") as caught:
        CRouter(GOLDEN / "random")
    assert caught.value.status == BAD_DIRECTORY
    with pytest.raises(LibraryError, match="no directory that can be read") as caught:
        CRouter(tmp_path / "none")
    assert caught.value.status == NOT_FOUND
    mf_router().save(tmp_path / "r")
    manifest = editable_manifest(tmp_path / "r" / "router.json")
    (tmp_path / "r" / "router.json").write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(LibraryError, match="upgrade routellm-fast") as caught:
        CRouter(tmp_path / "r")
    assert caught.value.status == BAD_DIRECTORY


def test_only_the_header_s_functions_are_exported() -> None:
    names = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", str(c_abi().library)],
        capture_output=True,
        text=True,
        check=True,
    )
    exported = {line.split()[0] for line in names.stdout.splitlines()}
    assert exported
    header = c_abi().header.read_text()
    assert all(name.startswith("routellm_") and f" {name}(" in header.replace("*", " ") for name in exported)
