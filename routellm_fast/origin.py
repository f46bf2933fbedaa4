"""Directories that objects were loaded from, so that a copy in another process reads them instead of carrying them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routellm_fast.artifact import Artifact, Layout, read_artifact
from routellm_fast.errors import ArtifactIntegrityError

_PACKAGE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Origin:
    """A directory, and its contents' identity.

    Attributes:
        path: The directory: absolute, or relative to the installed package for what ships with it, which lies elsewhere
            in another environment.
        layout: What the directory holds.
        sha256: Digest of its manifest, which states the digests of all its files.
    """

    path: Path
    layout: Layout
    sha256: str

    @classmethod
    def of(cls, directory: str | Path, layout: Layout, artifact: Artifact) -> Origin:
        """Return the origin of what was read from a directory."""
        path = Path(directory).absolute()
        return cls(path.relative_to(_PACKAGE) if path.is_relative_to(_PACKAGE) else path, layout, artifact.sha256)

    def read(self) -> Artifact:
        """Read the directory again, memory-mapped where it was.

        Raises:
            ArtifactIntegrityError: Its contents are no longer those that it was loaded with.
            ArtifactError: It cannot be read; see the subclasses.
        """
        directory = _PACKAGE / self.path
        artifact = read_artifact(directory, self.layout)
        if artifact.sha256 != self.sha256:
            raise ArtifactIntegrityError(
                f"{directory / self.layout.manifest_file} has sha256 {artifact.sha256}, the object that was pickled "
                f"had been loaded from one of {self.sha256}: the directory was changed since. Load it anew, and pickle "
                "that."
            )
        return artifact
