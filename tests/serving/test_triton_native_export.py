"""What `export triton --mode native` writes, in a real server with this package's own backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from tests.support import triton_server
from tests.support.builders import mf_router, static_embedder
from tests.support.sw_builders import battle_texts, sw_router

backend = pytest.importorskip("routellm_fast.serving.native_backend")
pytest.importorskip("tritonclient.grpc")
pytest.importorskip("tritonclient.http")

from routellm_fast.export import export_triton  # noqa: E402

from routellm_fast.serving.triton import TritonRouter  # noqa: E402

PROMPTS = ["", "prove the", "write {1} " * 40, "é\ud800 \0 x", *battle_texts(30)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_the_same_client_gets_the_routers_own_answers(tmp_path: Path, kind: str) -> None:
    router = mf_router() if kind == "mf" else sw_router("int8", embedder=static_embedder(surface_features=()))
    router.save(tmp_path / "router")
    export_triton(tmp_path / "router", tmp_path / "repository", mode="native", default_threshold=0.4, weak_model="w")
    folder = backend.triton_backend_directory() / backend.BACKEND
    with triton_server.start(tmp_path / "repository", backends={backend.BACKEND: folder}) as server:
        for url in (server.http_url, server.grpc_url):
            with TritonRouter(url) as client:
                assert client.is_healthy()
                assert client.model_pair == (router.model_pair.strong, "w")
                np.testing.assert_array_equal(client.win_rates(PROMPTS), router.win_rates(PROMPTS))
                for threshold in (0.0, 0.3, 0.5, 1.0):
                    found = client.route_batch(PROMPTS, threshold)
                    expected = router.route_batch(PROMPTS, threshold)
                    assert [decision[1:] for decision in found] == [decision[1:] for decision in expected]
                vectors = np.random.default_rng(0).normal(size=(100, router.dim)).astype(np.float32)
                np.testing.assert_array_equal(
                    client.win_rates_from_embeddings(vectors), router.win_rates_from_embeddings(vectors)
                )
                assert client.counts.retries == client.counts.failures == 0


@pytest.mark.slow
def test_the_environment_of_make_triton_env_serves_mode_native(tmp_path: Path) -> None:
    own = triton_server.environment() / "backends" / backend.BACKEND
    if not own.is_symlink():
        pytest.skip("this environment was made without the package")
    assert (own / backend.LIBRARY).is_file()
    export_triton("mf", tmp_path / "repository", mode="native")
    local = rf.load_router()
    with (
        triton_server.start(tmp_path / "repository", backends={backend.BACKEND: own}) as server,
        TritonRouter(server.http_url) as client,
    ):
        assert client.threshold_for(0.3) == local.threshold_for(0.3)
        assert client.default_threshold == local.default_threshold
        np.testing.assert_array_equal(client.win_rates(PROMPTS), local.win_rates(PROMPTS))
