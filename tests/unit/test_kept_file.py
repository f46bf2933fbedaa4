from __future__ import annotations

import logging
from pathlib import Path

import pytest

from routellm_fast.kept_file import read_kept, write_kept


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    assert read_kept(path) is None
    for content in (b"", b"content", bytes(100_000)):
        write_kept(path, content)
        assert read_kept(path) == content
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-1] + b"T",
        lambda content: b"\0" + content[1:],
    ],
)
def test_what_is_damaged_is_as_good_as_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    path = tmp_path / "file"
    write_kept(path, b"content")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert read_kept(path) is None
    assert f"{path} is damaged, and is made again" in caplog.text


def test_what_cannot_be_read_is_as_good_as_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_kept(tmp_path) is None
    assert "cannot be read (Is a directory)" in caplog.text
