"""Write the golden directories of the current format. They are added to, never written again: run it for a new format
only.

python tests/artifacts/make.py tests/artifacts/v1
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from builders import PAIR, mf_router, mf_weights, static_embedder

from routellm_fast import FunctionEmbedder
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter, Router

PROMPTS = ["hello", "prove the a b c?", "", "écrits { 1 }", "unknown words only"]


def golden_routers() -> dict[str, Router]:
    ones = FunctionEmbedder(
        lambda texts: np.ones((len(texts), 9), np.float32), name="ones", dim=9, fingerprint="sha256:1"
    )
    return {
        "mf-int8-folded": mf_router(static_embedder(normalize=False, int8=True)),
        "mf-float32-normalized": mf_router(static_embedder(normalize=True, int8=False)),
        "mf-external": mf_router(ones),  # type: ignore[arg-type]
        "mf-none": MatrixFactorizationRouter(["strong-model", "weak-model", "c"], **mf_weights(), model_pair=PAIR),
        "random": RandomRouter(PAIR, seed=11),
    }


def main(folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} exists: golden files are never written again")
    embeddings = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 9)
    expected = {}
    for name, router in golden_routers().items():
        router.save(folder / name)
        texts = name not in ("mf-external", "mf-none")
        expected[name] = {
            "win_rates": router.win_rates(PROMPTS).tolist() if texts else None,
            "from_embeddings": None if name == "random" else router.win_rates_from_embeddings(embeddings).tolist(),  # type: ignore[attr-defined]
        }
    static_embedder(normalize=True).save(folder / "embedder")
    expected["embedder"] = {"embeddings": static_embedder(normalize=True).embed(PROMPTS).tolist()}
    (folder / "expected.json").write_text(
        json.dumps({"prompts": PROMPTS, "routers": expected}, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
