"""Write the golden directories of the current format that are not there yet. One that is there is never written again.

python tests/artifacts/make.py tests/artifacts/v1
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from routellm_fast import FunctionEmbedder
from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, write_artifact
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter, Router, SimilarityWeightedRouter
from tests.support.builders import PAIR, bert_router, mf_router, mf_weights, static_embedder
from tests.support.calibration_builders import full_calibration
from tests.support.sw_builders import sw_router

PROMPTS = ["hello", "prove the a b c?", "", "écrits { 1 }", "unknown words only"]


def golden_routers() -> dict[str, Router]:
    ones = FunctionEmbedder(
        lambda texts: np.ones((len(texts), 9), np.float32), name="ones", dim=9, fingerprint="sha256:1"
    )
    return {
        "mf-int8-folded": mf_router(static_embedder(normalize=False, int8=True)),
        "mf-float32-normalized": mf_router(static_embedder(normalize=True, int8=False)),
        "mf-external": mf_router(ones),  # type: ignore[arg-type]
        "mf-calibrated": mf_router(calibration=full_calibration()),
        "mf-own-digest": mf_router(),  # the first whose manifest has a digest of itself
        "mf-ends": mf_router(static_embedder(normalize=True, max_tokens=5, max_code_points=40, tail_tokens=2)),
        "mf-none": MatrixFactorizationRouter(["strong-model", "weak-model", "c"], **mf_weights(), model_pair=PAIR),
        "bert": bert_router(),
        "random": RandomRouter(PAIR, seed=11),
        # Two blocks each, one of them of battles that were added.
        "sw-float32": sw_router(added=(9,), same_tier="ignore", solver="routellm"),
        "sw-int8": sw_router("int8", added=(9,), pca_dim=7),
        "sw-moments": sw_router("moments", added=(9,), pca_dim=5),
    }


def mapped_tensors() -> dict[str, np.ndarray]:
    return {
        "bank": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
        "bank.1": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
        "bank.10": np.empty((0, 5), np.uint16),
    }


def main(folder: Path) -> None:
    record_file = folder / "expected.json"
    record = json.loads(record_file.read_text()) if record_file.exists() else {"prompts": PROMPTS, "routers": {}}
    expected = record["routers"]
    embeddings = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 9)
    for name, router in golden_routers().items():
        if name in expected:
            continue
        router.save(folder / name)
        texts = name not in ("mf-external", "mf-none")
        expected[name] = {
            "win_rates": router.win_rates(record["prompts"]).tolist() if texts else None,
            "from_embeddings": None
            if name in ("random", "bert")
            else router.win_rates_from_embeddings(embeddings).tolist(),  # type: ignore[attr-defined]
        }
        if isinstance(router, SimilarityWeightedRouter):
            expected[name]["exact"] = router.exact_win_rates_from_embeddings(embeddings).tolist()
    if "embedder" not in expected:
        static_embedder(normalize=True).save(folder / "embedder")
        expected["embedder"] = {"embeddings": static_embedder(normalize=True).embed(record["prompts"]).tolist()}
    if not (folder / "mapped-tensors").exists():
        tensors = {"w": np.array([0.5, -0.25], np.float32)}
        artifact = Artifact({"embedder": {}, "provenance": {}}, tensors, mapped=mapped_tensors())
        write_artifact(folder / "mapped-tensors", artifact, EMBEDDER_LAYOUT)
    record_file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
