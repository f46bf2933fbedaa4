from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, read_artifact, verify_artifact, write_artifact

FOLDERS = sorted((Path(__file__).parents[2] / "artifacts").glob("v*"))
MAPPED = [folder / "mapped-tensors" for folder in FOLDERS]
CASES = [path for folder in FOLDERS for path in sorted(folder.iterdir()) if path.is_dir() and path not in MAPPED]


def check_same(golden: Path, written: Path) -> None:
    """Golden directories of before manifests had a digest of themselves get one; all else stays as it was."""
    for file in golden.iterdir():
        found, expected = (written / file.name).read_bytes(), file.read_bytes()
        if file.name in ("router.json", "embedder.json") and b"manifest_sha256" not in expected:
            found = re.sub(rb'"manifest_sha256": "[0-9a-f]{64}",\n', b"", found)
        assert found == expected, file.name


def test_every_format_has_golden_directories() -> None:
    from routellm_fast.artifact import FORMAT_VERSION

    assert [folder.name for folder in FOLDERS] == [f"v{version}" for version in range(1, FORMAT_VERSION + 1)]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_directories_of_every_format_give_the_recorded_numbers(path: Path) -> None:
    record = json.loads((path.parent / "expected.json").read_text())
    expected = record["routers"][path.name]
    if "embeddings" in expected:
        found = rf.StaticEmbedder.load(path).embed(record["prompts"])
        np.testing.assert_allclose(found, expected["embeddings"], atol=1e-6)
        return
    if path.name == "bert":
        pytest.importorskip("onnxruntime")
    router = rf.load_router(path)
    embeddings = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 9)
    # A later version may approximate otherwise, within the bound that the directory states.
    tolerance = max(1e-6, 2.0 * getattr(router, "error_bound", 0.0))
    if expected["win_rates"] is not None:
        np.testing.assert_allclose(router.win_rates(record["prompts"]), expected["win_rates"], rtol=0, atol=tolerance)
    if expected["from_embeddings"] is not None:
        found = router.win_rates_from_embeddings(embeddings)  # type: ignore[attr-defined]
        np.testing.assert_allclose(found, expected["from_embeddings"], rtol=0, atol=tolerance)
    if "exact" in expected:
        found = router.exact_win_rates_from_embeddings(embeddings)  # type: ignore[attr-defined]
        np.testing.assert_allclose(found, expected["exact"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", [p for p in CASES if (p / "router.json").is_file()], ids=lambda path: path.name)
def test_directories_of_the_current_format_are_written_back_to_the_byte(path: Path, tmp_path: Path) -> None:
    from routellm_fast.artifact import FORMAT_VERSION

    if path.parent.name != f"v{FORMAT_VERSION}":
        pytest.skip("an older format is written as the current one")
    if path.name == "bert":
        pytest.importorskip("onnxruntime")
    rf.load_router(path).save(tmp_path / "again")
    check_same(path, tmp_path / "again")


@pytest.mark.parametrize("path", MAPPED, ids=lambda path: path.parent.name)
def test_mapped_tensors_of_every_format_are_read_and_written_to_the_byte(path: Path, tmp_path: Path) -> None:
    artifact = read_artifact(path, EMBEDDER_LAYOUT)
    expected = {
        "bank": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
        "bank.1": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
        "bank.10": np.empty((0, 5), np.uint16),
    }
    assert set(artifact.mapped) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(artifact.mapped[name], array, strict=True)
    verify_artifact(path, EMBEDDER_LAYOUT)
    write_artifact(tmp_path / "again", Artifact(artifact.manifest, artifact.tensors, mapped=expected), EMBEDDER_LAYOUT)
    check_same(path, tmp_path / "again")
