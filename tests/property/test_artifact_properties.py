from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from builders import mf_router
from hypothesis import given, settings
from hypothesis import strategies as st

import routellm_fast as rf

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
    manifest = json.loads((pristine / "router.json").read_text())
    place = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    check_harmless_or_refused(pristine, "router.json", json.dumps(manifest).encode())
