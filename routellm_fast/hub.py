"""Repositories of the Hugging Face hub, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from routellm_fast.errors import ArtifactNotFoundError
from routellm_fast.extras import require


def is_hub_name(source: str | Path) -> bool:
    """Tell whether a source can only be a repository of the hub: OWNER/NAME, and nothing of that name lies here."""
    return (
        isinstance(source, str)
        and source.count("/") == 1
        and not source.startswith(("/", ".", "~"))
        and not Path(source).exists()
    )


def downloaded(name: str, patterns: Sequence[str], *, extra: str, what: Literal["model", "dataset"] = "model") -> Path:
    """Return a folder with the files of a repository; what was downloaded before is not asked for again.

    Args:
        name: OWNER/NAME.
        patterns: Which files, as the shell writes them.
        extra: The extra of this package that brings the hub's client.
        what: What the hub calls the repository.

    Raises:
        ArtifactNotFoundError: The hub cannot be reached, or does not give it; the text says what else can be done.
        MissingExtraError: The hub's client is not installed.
    """
    hub = require("huggingface_hub", extra)
    try:
        return Path(hub.snapshot_download(name, repo_type=what, allow_patterns=list(patterns)))
    except Exception as error:  # of any class, from several libraries
        reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
        kind = " --repo-type dataset" if what == "dataset" else ""
        raise ArtifactNotFoundError(
            f"{name} is no folder here, and the hub did not give it ({type(error).__name__}: {reason}). Where this "
            f"machine cannot reach the hub, download it on another (hf download {name}{kind} --local-dir FOLDER) and "
            "give the folder"
        ) from error
