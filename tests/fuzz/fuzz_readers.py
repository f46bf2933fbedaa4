"""Coverage-guided fuzzing of everything that reads a directory (needs atheris, on Linux).

    python tests/fuzz/fuzz_readers.py -max_total_time=60

An input damages one file of a valid directory, maybe without a change of its size. Some then get fitting digests, so
that the damage reaches the parsers behind them; mapped files, whose digests loading does not look at, reach the kernels
without. Or an input writes a router again with one value of the manifest or one tensor replaced: all digests fit, and
the kind's own rules are all that is left. Whatever happens must be a RouteLLMError, or win rates in [0, 1].
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import routellm_fast as rf
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, read_artifact, write_artifact
from routellm_fast.routers import MatrixFactorizationRouter, SimilarityWeightedRouter
from routellm_fast.routers.similarity.router import PRECISIONS
from routellm_fast.thresholds import check_drift
from tests.fuzz.harness import damage, instrument, workspace
from tests.support.builders import mf_router, model2vec_folder
from tests.support.calibration_builders import full_calibration
from tests.support.sw_builders import sw_router

instrument()

PROMPTS = ["hello", "prove the a?"]
CHECKPOINT = Path(__file__).parent.parent / "parity" / "routellm_checkpoint"
WORKSPACE = workspace()


def pristine() -> dict[str, dict[str, bytes]]:
    calibrated = mf_router(calibration=full_calibration())
    routers = {
        "mf": mf_router(),
        "calibrated": calibrated,
        **{precision: sw_router(precision, added=(9,)) for precision in PRECISIONS},
    }
    folders = {"checkpoint": CHECKPOINT, "model2vec": model2vec_folder(WORKSPACE / "model2vec")}
    for kind, router in routers.items():
        folders[kind] = WORKSPACE / kind
        router.save(folders[kind])
    return {kind: {file.name: file.read_bytes() for file in sorted(path.iterdir())} for kind, path in folders.items()}


PRISTINE = pristine()
for kind, content in PRISTINE.items():
    (WORKSPACE / f"damaged-{kind}").mkdir()
    for file, of_file in content.items():
        (WORKSPACE / f"damaged-{kind}" / file).write_bytes(of_file)
ROUTERS = sorted(kind for kind, files in PRISTINE.items() if "router.json" in files)
ARTIFACTS = {kind: read_artifact(WORKSPACE / kind, ROUTER_LAYOUT) for kind in ROUTERS}
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    255,
    10**400,
    -0.5,
    0.5,
    1e308,
    "",
    "int8",
    "moments",
    [],
    ["a"],
    {},
    {"strong": "a"},
]
NUMBERS = [0, 1, -1, 0xFFFFFFFF, 1e-310, 1e-30, 3e38, 1e308, -1e308]


def sign(files: dict[str, bytes], name: str) -> None:
    manifest = json.loads(files["router.json"])
    manifest.pop("manifest_sha256", None)
    content = files[name]
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files["router.json"] = json.dumps(manifest).encode()


def replace_value(value: Any, data: atheris.FuzzedDataProvider) -> Any:
    if isinstance(value, dict) and value and data.ConsumeIntInRange(0, 3):
        key = data.PickValueInList(sorted(value))
        return {**value, key: replace_value(value[key], data)}
    return data.PickValueInList(VALUES)


def replace_tensor(tensor: np.ndarray, data: atheris.FuzzedDataProvider) -> np.ndarray:
    match data.ConsumeIntInRange(0, 5):
        case 0:
            return tensor[1:]
        case 1:
            return np.ones((), tensor.dtype)
        case 2:
            return tensor[..., None]
        case 3:
            return tensor[..., :0]
        case 4:
            with np.errstate(all="ignore"):
                return tensor.astype(data.PickValueInList(["int8", "uint16", "uint32", "float32", "float64"]))
    result = tensor.reshape(-1).copy()
    first = data.ConsumeIntInRange(0, max(len(result) - 1, 0))
    with np.errstate(all="ignore"):
        result[first : first + data.ConsumeIntInRange(1, 64)] = np.array(data.PickValueInList(NUMBERS)).astype(
            tensor.dtype
        )
    return result.reshape(tensor.shape)


def altered(artifact: Artifact, data: atheris.FuzzedDataProvider) -> Artifact:
    if data.ConsumeBool():
        key = data.PickValueInList(["settings", "model_pair", "calibration", "embedder"])
        value = replace_value(artifact.manifest[key], data)
        return replace(artifact, manifest={**artifact.manifest, key: value})
    tensors, mapped = dict(artifact.tensors), dict(artifact.mapped)
    name = data.PickValueInList(sorted({**tensors, **mapped}))
    where = tensors if name in tensors else mapped
    where[name] = replace_tensor(where[name], data)
    return replace(artifact, tensors=tensors, mapped=mapped)


def use(router: rf.Router) -> None:
    json.dumps(router.facts)
    rates = [*router.win_rates(PROMPTS), router.route(PROMPTS[0]).win_rate]
    if router.calibration is not None:
        json.dumps(check_drift(router.calibration, router.win_rates(PROMPTS)).to_json(), allow_nan=False)
        if router.calibration.probability is not None:
            rates += [*router.probabilities(PROMPTS)]
    if isinstance(router, SimilarityWeightedRouter):
        embeddings = router.embedder.embed(PROMPTS)
        rates += [*router.exact_win_rates_from_embeddings(embeddings)]
        router.tier_ratings_from_embeddings(embeddings)
        router.add_battles(embeddings, [*router.model_names][:2], [*router.model_names][-2:], ["tie", "model_a"])
    assert all(0.0 <= rate <= 1.0 for rate in rates), rates


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Replace files of a folder. What an earlier router has mapped stays as it was."""
    for name, content in files.items():
        (folder / "new").write_bytes(content)
        (folder / "new").replace(folder / name)


def damaged(kind: str, data: atheris.FuzzedDataProvider) -> dict[str, bytes]:
    """Return the files of a kind that are not as they were."""
    pristine = PRISTINE[kind]
    name = data.PickValueInList(sorted(pristine))
    files = {name: damage(pristine[name], data, keeps_size=data.ConsumeBool())}
    if kind in ROUTERS and name not in ("router.json", "README.md") and data.ConsumeBool():
        files = {"router.json": pristine["router.json"], **files}
        sign(files, name)
    return files


def load(kind: str, folder: Path) -> None:
    if kind in ROUTERS:
        use(rf.load_router(folder))
    elif kind == "model2vec":
        rf.StaticEmbedder.load(folder).embed(PROMPTS)
    else:
        router = MatrixFactorizationRouter.from_routellm(folder, embedder=None)
        router.win_rates_from_embeddings(np.ones((2, router.dim), np.float32))


def one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    kind = data.PickValueInList(sorted(PRISTINE))
    rewrites = kind in ROUTERS and data.ConsumeBool()
    changed: dict[str, bytes] = {}
    folder = WORKSPACE / ("rewritten" if rewrites else f"damaged-{kind}")
    try:
        if rewrites:
            write_artifact(folder, altered(ARTIFACTS[kind], data), ROUTER_LAYOUT)
        else:
            changed = damaged(kind, data)
            put(folder, changed)
        load(kind, folder)
    except rf.RouteLLMError:
        return
    finally:
        put(folder, {name: PRISTINE[kind][name] for name in changed})


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
