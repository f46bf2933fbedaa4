"""Coverage-guided fuzzing of everything that reads a directory (needs atheris, on Linux).

    python tests/fuzz/fuzz_readers.py -max_total_time=60

Each input damages one file of a valid directory. Half of the inputs then get fitting digests, so that the damage
reaches the parsers behind them. Whatever happens must be a RouteLLMError, or a router whose win rates are finite.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from builders import mf_router, model2vec_folder

import routellm_fast as rf
from routellm_fast.routers import MatrixFactorizationRouter

# Not instrument_imports: an editable install has a loader of its own, which that does not see through.
for module in [module for name, module in sys.modules.items() if name.startswith("routellm_fast.")]:
    for function in [value for value in vars(module).values() if inspect.isfunction(value)]:
        atheris.instrument_func(function)

PROMPTS = ["hello", "prove the a?"]
CHECKPOINT = Path(__file__).parent.parent / "parity" / "routellm_checkpoint"
WORKSPACE = Path(tempfile.mkdtemp())


def pristine() -> dict[str, dict[str, bytes]]:
    mf_router().save(WORKSPACE / "router")
    model2vec_folder(WORKSPACE / "model2vec")
    folders = {"router": WORKSPACE / "router", "model2vec": WORKSPACE / "model2vec", "checkpoint": CHECKPOINT}
    return {kind: {file.name: file.read_bytes() for file in path.iterdir()} for kind, path in folders.items()}


PRISTINE = pristine()


def damage(content: bytes, data: atheris.FuzzedDataProvider) -> bytes:
    result = bytearray(content)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        position = data.ConsumeIntInRange(0, len(result))
        removed = data.ConsumeIntInRange(0, 64)
        result[position : position + removed] = data.ConsumeBytes(data.ConsumeIntInRange(0, 64))
    return bytes(result)


def sign(files: dict[str, bytes], name: str) -> None:
    manifest = json.loads(files["router.json"])
    content = files[name]
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files["router.json"] = json.dumps(manifest).encode()


def one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    kind = data.PickValueInList(sorted(PRISTINE))
    files = dict(PRISTINE[kind])
    name = data.PickValueInList(sorted(files))
    files[name] = damage(files[name], data)
    if kind == "router" and name not in ("router.json", "README.md") and data.ConsumeBool():
        sign(files, name)
    folder = WORKSPACE / "damaged"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    try:
        if kind == "router":
            found = rf.load_router(folder).win_rates(PROMPTS)
        elif kind == "model2vec":
            found = rf.StaticEmbedder.load(folder).embed(PROMPTS)
        else:
            router = MatrixFactorizationRouter.from_routellm(folder, embedder=None)
            found = router.win_rates_from_embeddings(np.ones((2, router.dim), np.float32))
    except (rf.RouteLLMError, MemoryError):
        return
    if kind == "router":
        assert np.isfinite(found).all()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
