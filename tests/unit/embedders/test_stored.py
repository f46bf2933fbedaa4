from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.embedders.stored import ShippedEmbedder, check_same_embedder, restore_embedder, store_embedder
from routellm_fast.routers.loading import SHIPPED_ROUTER
from tests.support.builders import mf_router, static_embedder

TEXTS = ["hello world", "", "prove that there are infinitely many primes"]


@pytest.fixture(scope="module")
def shipped() -> ShippedEmbedder:
    return ShippedEmbedder()


def test_a_reference_is_the_shipped_table_without_surface_features(shipped: ShippedEmbedder) -> None:
    own = rf.StaticEmbedder.load(SHIPPED_ROUTER)
    np.testing.assert_array_equal(shipped.embed(TEXTS), own.embed(TEXTS)[:, : shipped.dim])
    assert isinstance(shipped, rf.Embedder)
    assert shipped.dim == own.dim - len(own.surface_features)
    assert (shipped.name, shipped.fingerprint) == (own.tokens_only().name, own.tokens_only().fingerprint)


def test_a_router_directory_holds_the_reference_and_not_the_table(shipped: ShippedEmbedder, tmp_path: Path) -> None:
    mf_router(shipped).save(tmp_path / "referring")  # type: ignore[arg-type]
    assert not (tmp_path / "referring" / "tokenizer.json").exists()
    loaded = rf.load_router(tmp_path / "referring")
    assert isinstance(loaded.embedder, rf.StaticEmbedder)
    assert loaded.embedder.fingerprint == shipped.fingerprint
    np.testing.assert_array_equal(loaded.embedder.embed(TEXTS), shipped.embed(TEXTS))
    # Whoever saves it again must not depend on the table that this version of the package holds.
    loaded.save(tmp_path / "whole")
    assert (tmp_path / "whole" / "tokenizer.json").exists()
    again = rf.StaticEmbedder.load(tmp_path / "whole")
    assert again.fingerprint == shipped.fingerprint
    np.testing.assert_array_equal(rf.load_router(tmp_path / "whole").win_rates(TEXTS), loaded.win_rates(TEXTS))


def test_the_table_of_another_package_is_refused(shipped: ShippedEmbedder) -> None:
    spec, tensors, files = store_embedder(shipped)
    assert spec["kind"] == "shipped"
    assert (tensors, files) == ({}, {})
    with pytest.raises(rf.EmbedderMismatchError, match="fingerprint"):
        restore_embedder({**spec, "fingerprint": "sha256:another"}, {}, {}, None)
    with pytest.raises(rf.EmbedderMismatchError, match="dim"):
        restore_embedder(spec, {}, {}, static_embedder())
    check_same_embedder(shipped, spec)


@pytest.mark.parametrize(
    "settings",
    [{}, {"router": "mf"}, {"router": "../mf", "surface_features": []}, {"router": "mf", "surface_features": ["x"]}],
)
def test_a_reference_to_anything_else_is_refused(shipped: ShippedEmbedder, settings: dict[str, object]) -> None:
    spec, _, _ = store_embedder(shipped)
    with pytest.raises(rf.ArtifactFormatError, match="a shipped embedder has the settings"):
        restore_embedder({**spec, "settings": settings}, {}, {}, None)
    with pytest.raises(rf.ArtifactFormatError, match="expected static, shipped, openai, external"):
        restore_embedder({**spec, "kind": "borrowed"}, {}, {}, None)
