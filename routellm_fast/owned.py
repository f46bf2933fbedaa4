"""Which files of a directory this package wrote, and may therefore replace and remove."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owned:
    """Which files of a directory this package wrote, as relative paths with "/" between the parts.

    Attributes:
        manifest: The file that says so; "" for none. It is removed last.
        files: All of them, the manifest too. They are removed when the directory is replaced.
        replaceable: Texts that stay as they are unless the new directory has another text of that name.
        empty_folders: Folders that this package made and put nothing into.
    """

    manifest: str = ""
    files: frozenset[str] = frozenset()
    replaceable: frozenset[str] = frozenset()
    empty_folders: frozenset[str] = frozenset()

    def folders(self) -> set[str]:
        """Return the folders that this package made: those that hold its files, and those that it left empty."""
        holding = {
            folder for name in (*self.files, *self.empty_folders) for folder in Path(name).parents if folder.name
        }
        return {os.fspath(folder) for folder in holding} | self.empty_folders
