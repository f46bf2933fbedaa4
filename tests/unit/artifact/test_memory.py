"""Directories that claim more than there is: a named error, whatever the process may take."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from tests.support.builders import mf_router, model2vec_folder
from tests.support.c_library import BAD_DIRECTORY, CRouter, LibraryError
from tests.support.manifests import editable_manifest
from tests.support.processes import assert_refused, run_cli, run_python

GOLDEN = Path(__file__).resolve().parents[2] / "artifacts" / "v1"
TERABYTE = 1 << 40

# Loads a directory with so many more bytes of memory than a first load took, in Python and in C.
LIMITED = textwrap.dedent(
    """
    import resource, sys
    import routellm_fast as rf
    from routellm_fast.artifact import ROUTER_LAYOUT, verify_artifact
    from tests.support.c_library import CRouter, LibraryError, OUT_OF_MEMORY

    place, warm, *rooms = sys.argv[1:]
    rf.load_router(warm).win_rate("hello")
    CRouter(warm)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    for room in map(int, rooms):
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.getrlimit(resource.RLIMIT_AS)[1]))
        for name in ("Python", "C", "verify"):
            try:
                if name == "verify":
                    verify_artifact(place, ROUTER_LAYOUT)
                else:
                    (rf.load_router if name == "Python" else CRouter)(place)
                found = "loaded"
            except rf.ArtifactMemoryError as error:
                found = "memory" if place in str(error) else f"unnamed: {error}"
            except LibraryError as error:
                found = "memory" if error.status == OUT_OF_MEMORY else f"{error.status} {error}"
            print(room, name, found, flush=True)
    """
)


def under_limits(place: Path, *rooms: int, warm: Path = GOLDEN / "sw-int8") -> list[tuple[str, str]]:
    run = run_python("-c", LIMITED, str(place), str(warm), *map(str, rooms))
    assert run.returncode == 0, (run.returncode, run.stderr)
    lines = [line.split(" ", 2) for line in run.stdout.splitlines()]
    assert len(lines) == 3 * len(rooms)
    return [(name, found) for _, name, found in lines]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    mf_router().save(tmp_path / "router")
    return tmp_path / "router"


def edit(path: Path, change: Callable[[dict], object]) -> None:
    manifest = editable_manifest(path / "router.json")
    change(manifest)
    (path / "router.json").write_text(json.dumps(manifest))


def sparse(path: Path, name: str, size: int) -> None:
    """Let a file have a size that the manifest agrees to; it is a hole, and takes no room on the disk."""
    os.truncate(path / name, size)
    edit(path, lambda manifest: manifest["files"][name].update(bytes=size))


@pytest.mark.parametrize("size", [2**45, 2**62, 2**63 - 1, 2**63, 2**64, 10**300])
def test_a_size_is_held_against_the_file_before_memory_is_taken(saved: Path, size: int) -> None:
    edit(saved, lambda manifest: manifest["files"]["weights.safetensors"].update(bytes=size))
    for read, errors in ((rf.load_router, rf.ArtifactError), (CRouter, LibraryError)):
        with pytest.raises(errors, match=r"weights\.safetensors") as caught:
            read(saved)
        assert getattr(caught.value, "status", BAD_DIRECTORY) == BAD_DIRECTORY
        assert not isinstance(caught.value, MemoryError)


@pytest.mark.parametrize(
    "shape", [[2**63 - 1], [2**62, 4], [2**32, 2**32], [3] * 33, [2**61, 0], [-1, 4], [2**63, 1], [4, 9, 1]]
)
def test_a_shape_is_held_against_the_file_before_memory_is_taken(tmp_path: Path, shape: list[int]) -> None:
    for golden, tensor in (("mf-calibrated", "W"), ("sw-float32", "bank"), ("sw-int8", "codes")):
        place = tmp_path / golden
        shutil.copytree(GOLDEN / golden, place)
        edit(place, lambda manifest, name=tensor: manifest["tensors"][name].update(shape=shape))
        for read, errors in ((rf.load_router, rf.ArtifactFormatError), (CRouter, LibraryError)):
            with pytest.raises(errors, match=f"{tensor}") as caught:
                read(place)
            assert getattr(caught.value, "status", BAD_DIRECTORY) == BAD_DIRECTORY


@pytest.mark.parametrize("length", [0, 7, 2**24, 2**63 - 1, 2**63, 2**64 - 1, 10**8, 10**8 + 1])
def test_a_header_s_length_is_held_against_its_file(tmp_path: Path, length: int) -> None:
    import hashlib

    for golden, file in (("mf-calibrated", "weights.safetensors"), ("sw-float32", "bank.safetensors")):
        place = tmp_path / golden
        shutil.copytree(GOLDEN / golden, place)
        content = length.to_bytes(8, "little") + (place / file).read_bytes()[8:]
        (place / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        edit(place, lambda manifest, name=file, sha=digest: manifest["files"][name].update(sha256=sha))
        for read, errors in ((rf.load_router, rf.ArtifactFormatError), (CRouter, LibraryError)):
            with pytest.raises(errors, match=file):
                read(place)


def test_files_of_terabytes_are_named_whatever_memory_there_is(saved: Path, tmp_path: Path) -> None:
    sparse(saved, "weights.safetensors", TERABYTE)
    for name, found in under_limits(saved, 1 << 20, 64 << 20):
        assert found == "memory", name
    assert_refused(run_cli("info", str(saved)), "needs more memory")
    shutil.copytree(GOLDEN / "sw-float32", tmp_path / "banked")
    header = b'{"bank":{"dtype":"F32","shape":[%d,9],"data_offsets":[0,%d]}}' % (TERABYTE // 36, TERABYTE // 36 * 36)
    with (tmp_path / "banked" / "bank.safetensors").open("wb") as file:
        file.write((4088).to_bytes(8, "little") + header.ljust(4088))
    size = 4096 + TERABYTE // 36 * 36
    sparse(tmp_path / "banked", "bank.safetensors", size)
    edit(tmp_path / "banked", lambda m: m["tensors"]["bank"].update(shape=[TERABYTE // 36, 9]))
    for name, found in under_limits(tmp_path / "banked", 1 << 20, 64 << 20):
        assert found == "memory", name


def test_a_router_of_megabytes_loads_or_is_named_at_each_limit(tmp_path: Path) -> None:
    rooms = [0, *(1 << k for k in range(12, 26))]
    found = under_limits(Path(rf.__file__).parent / "assets" / "mf", *rooms)
    assert {verdict for _, verdict in found} == {"loaded", "memory"}, found
    assert [verdict for _, verdict in found[-3:]] == ["loaded"] * 3


def test_other_programs_folders_of_terabytes_are_named(tmp_path: Path) -> None:
    from routellm_fast.routers import MatrixFactorizationRouter

    folder = model2vec_folder(tmp_path / "model2vec")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(GOLDEN.parents[1] / "parity" / "routellm_checkpoint", checkpoint)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        os.truncate(folder / name, TERABYTE)
        with pytest.raises(rf.ArtifactMemoryError, match="model2vec"):
            rf.StaticEmbedder.load(folder)
        os.truncate(folder / name, 0)
        with pytest.raises(rf.ArtifactFormatError):
            rf.StaticEmbedder.load(folder)
        shutil.rmtree(folder)
        model2vec_folder(folder)
    for name in ("config.json", "model.safetensors"):
        content = (checkpoint / name).read_bytes() if (checkpoint / name).exists() else b"{}"
        (checkpoint / name).write_bytes(content)
        os.truncate(checkpoint / name, TERABYTE)
        with pytest.raises(rf.ArtifactMemoryError, match="checkpoint"):
            MatrixFactorizationRouter.from_routellm(checkpoint, embedder=None)
        (checkpoint / name).write_bytes(content)


@pytest.mark.parametrize("value", [2**31, 2**53, 2**63, 2**64, 10**300])
def test_counts_in_other_programs_folders_are_named_or_harmless(tmp_path: Path, value: int) -> None:
    folder = model2vec_folder(tmp_path / "model2vec")
    (folder / "config.json").write_text(json.dumps({"max_length": value}))
    if value < 2**53 // 10:
        assert rf.StaticEmbedder.load(folder).embed(["hello"]).shape == (1, 5)
    else:
        with pytest.raises(rf.RouteLLMError, match="max_"):
            rf.StaticEmbedder.load(folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["added_tokens"] = [{"content": "zzz", "id": value}]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    (folder / "config.json").write_text("{}")
    with pytest.raises(rf.RouteLLMError, match="token"):
        rf.StaticEmbedder.load(folder)


def test_a_mapped_file_that_claims_nothing_is_no_error_of_memory(tmp_path: Path) -> None:
    """mmap of no bytes fails, and of a hole of some it does not."""
    shutil.copytree(GOLDEN / "sw-float32", tmp_path / "router")
    sparse(tmp_path / "router", "bank.safetensors", 0)
    with pytest.raises(rf.ArtifactError) as caught:
        rf.load_router(tmp_path / "router")
    assert not isinstance(caught.value, MemoryError)
    assert np.isfinite(rf.load_router(GOLDEN / "sw-float32").win_rates(["hello"])).all()
