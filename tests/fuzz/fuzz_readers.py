"""Coverage-guided fuzzing of everything that reads a directory (needs atheris, on Linux).

    python tests/fuzz/fuzz_readers.py -max_total_time=60

An input damages one file of a valid directory, maybe without a change of its size. Some then get fitting digests, so
that the damage reaches the parsers behind them; mapped files, whose digests loading does not look at, reach the kernels
without. Or an input writes a router again with one value of the manifest or one tensor replaced: all digests fit, and
the kind's own rules are all that is left. Whatever happens must be a RouteLLMError, or win rates in [0, 1].
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
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
from tests.support.builders import mf_router, model2vec_folder
from tests.support.calibration_builders import full_calibration
from tests.support.sw_builders import sw_router

# Not instrument_imports: an editable install has a loader of its own, which that does not see through.
for module in [module for name, module in sys.modules.items() if name.startswith("routellm_fast.")]:
    for function in [value for value in vars(module).values() if inspect.isfunction(value)]:
        atheris.instrument_func(function)

PROMPTS = ["hello", "prove the a?"]
CHECKPOINT = Path(__file__).parent.parent / "parity" / "routellm_checkpoint"
WORKSPACE = Path(tempfile.mkdtemp())


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
ROUTERS = sorted(kind for kind, files in PRISTINE.items() if "router.json" in files)
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


def damage(content: bytes, data: atheris.FuzzedDataProvider) -> bytes:
    result = bytearray(content)
    keeps_size = data.ConsumeBool()
    for _ in range(data.ConsumeIntInRange(1, 4)):
        position = data.ConsumeIntInRange(0, len(result))
        inserted = data.ConsumeBytes(data.ConsumeIntInRange(0, 64))
        inserted = inserted[: len(result) - position] if keeps_size else inserted
        removed = len(inserted) if keeps_size else data.ConsumeIntInRange(0, 64)
        result[position : position + removed] = inserted
    return bytes(result)


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


def write_damaged(kind: str, folder: Path, data: atheris.FuzzedDataProvider) -> None:
    files = dict(PRISTINE[kind])
    name = data.PickValueInList(sorted(files))
    files[name] = damage(files[name], data)
    if kind in ROUTERS and name not in ("router.json", "README.md") and data.ConsumeBool():
        sign(files, name)
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file, content in files.items():
        (folder / file).write_bytes(content)


def one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    kind = data.PickValueInList(sorted(PRISTINE))
    rewrites = kind in ROUTERS and data.ConsumeBool()
    folder = WORKSPACE / ("rewritten" if rewrites else "damaged")
    try:
        if rewrites:
            write_artifact(folder, altered(read_artifact(WORKSPACE / kind, ROUTER_LAYOUT), data), ROUTER_LAYOUT)
        else:
            write_damaged(kind, folder, data)
        if kind in ROUTERS:
            use(rf.load_router(folder))
        elif kind == "model2vec":
            rf.StaticEmbedder.load(folder).embed(PROMPTS)
        else:
            router = MatrixFactorizationRouter.from_routellm(folder, embedder=None)
            router.win_rates_from_embeddings(np.ones((2, router.dim), np.float32))
    except rf.RouteLLMError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
