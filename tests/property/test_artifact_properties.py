from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import routellm_fast as rf
from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, read_artifact, verify_artifact, write_artifact
from tests.support.builders import mf_router
from tests.support.manifests import editable_manifest

PROMPTS = ["hello", "prove the a?"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "router"
    mf_router().save(path)
    return path


def check_harmless_or_refused(pristine: Path, name: str, content: bytes) -> None:
    """A changed file gives a named error, or still a router that works: its damage stayed inside the format."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "router"
        shutil.copytree(pristine, copy)
        (copy / name).write_bytes(content)
        try:
            rates = rf.load_router(copy).win_rates(PROMPTS)
        except rf.RouteLLMError:
            return
    assert np.isfinite(rates).all()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_to_a_file_is_refused_by_name_or_harmless(pristine: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["router.json", "weights.safetensors", "tokenizer.json"]))
    content = bytearray((pristine / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content)))
        removed = data.draw(st.integers(0, 40))
        content[position : position + removed] = data.draw(st.binary(max_size=40))
    check_harmless_or_refused(pristine, name, bytes(content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_of_the_manifest_is_refused_by_name_or_harmless(
    pristine: Path, data: st.DataObject
) -> None:
    manifest = editable_manifest(pristine / "router.json")
    place = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    check_harmless_or_refused(pristine, "router.json", json.dumps(manifest).encode())


DTYPES = ["float16", "float32", "float64", "int8", "uint8", "uint16", "uint32", "int64"]
arrays = st_numpy.arrays(
    st.sampled_from(DTYPES),
    st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
    elements={"allow_nan": False, "allow_infinity": False},
)
names = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: name != "weights")


@given(tensors=st.dictionaries(names, arrays, max_size=4), layout=st.sampled_from(["C", "F", "reversed"]))
@settings(max_examples=150, deadline=None)
def test_mapped_tensors_come_back_whatever_their_dtype_shape_and_layout(
    tensors: dict[str, np.ndarray], layout: str
) -> None:
    if layout != "C":
        tensors = {name: np.asfortranarray(array) if layout == "F" else array[::-1] if array.ndim else array
                   for name, array in tensors.items()}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        write_artifact(first, Artifact({"embedder": {}, "provenance": {}}, {}, mapped=tensors), EMBEDDER_LAYOUT)
        artifact = read_artifact(first, EMBEDDER_LAYOUT)
        assert set(artifact.mapped) == set(tensors)
        for name, array in tensors.items():
            found = artifact.mapped[name]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found, array)
            assert found.flags.c_contiguous
            assert found.ctypes.data % 64 == 0
        verify_artifact(first, EMBEDDER_LAYOUT)
        write_artifact(second, artifact, EMBEDDER_LAYOUT)
        for file in first.iterdir():
            assert (second / file.name).read_bytes() == file.read_bytes()
            assert (second / file.name).samefile(file) == (file.name != "embedder.json")


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_to_a_mapped_file_leaves_its_shape_or_is_refused_and_is_found_by_verifying(
    data: st.DataObject,
) -> None:
    bank = np.arange(60, dtype=np.float32).reshape(20, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router"
        write_artifact(path, Artifact({"embedder": {}, "provenance": {}}, {}, mapped={"bank": bank}), EMBEDDER_LAYOUT)
        file = path / "bank.safetensors"
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, 100) | st.integers(4000, len(content)))
            new = data.draw(st.binary(max_size=40))
            removed = data.draw(st.just(len(new)) | st.integers(0, 40))
            content[position : position + removed] = new
        file.write_bytes(content)
        try:
            found = read_artifact(path, EMBEDDER_LAYOUT).mapped["bank"]
        except rf.RouteLLMError:
            return
        assert (found.dtype, found.shape) == (bank.dtype, bank.shape)
        try:
            verify_artifact(path, EMBEDDER_LAYOUT)
        except rf.ArtifactIntegrityError:
            return
        np.testing.assert_array_equal(found, bank)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_in_a_mapped_tensor_s_entries_is_refused_by_name_or_harmless(data: st.DataObject) -> None:
    bank = np.arange(60, dtype=np.float32).reshape(20, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router"
        write_artifact(path, Artifact({"embedder": {}, "provenance": {}}, {}, mapped={"bank": bank}), EMBEDDER_LAYOUT)
        manifest = editable_manifest(path / "embedder.json")
        place = data.draw(st.sampled_from([manifest["tensors"]["bank"], manifest["files"]["bank.safetensors"]]))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values | st.integers(-(10**9), 1 << 70))
        (path / "embedder.json").write_text(json.dumps(manifest))
        try:
            found = read_artifact(path, EMBEDDER_LAYOUT).mapped["bank"]
        except rf.RouteLLMError:
            return
        np.testing.assert_array_equal(found, bank)
