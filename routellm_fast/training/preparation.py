"""What every training does before it reads data."""

from __future__ import annotations

from pathlib import Path

from routellm_fast.artifact import ROUTER_LAYOUT, is_artifact
from routellm_fast.atomic import check_writable
from routellm_fast.data.names import known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.errors import ArtifactWriteError, InvalidArgumentError


def check_place(out: Path, checkpoint: Path | None = None) -> None:
    """Refuse a place that the router could not be written to, before the training instead of after it."""
    if checkpoint is not None and out.resolve() in (checkpoint.resolve(), *checkpoint.resolve().parents):
        raise InvalidArgumentError(
            f"the checkpoint {checkpoint} lies in the router directory {out}, which is replaced whole: choose another"
        )
    try:
        taken = out.exists() and not is_artifact(out, ROUTER_LAYOUT) and not (out.is_dir() and not any(out.iterdir()))
        if not taken:
            check_writable(out.parent)
    except OSError as error:
        raise ArtifactWriteError(f"{out} cannot be written ({error.strerror})") from error
    if taken:
        raise ArtifactWriteError(f"{out} exists and is no router directory: it is left alone. Choose another path.")
    if checkpoint is not None:
        try:
            check_writable(checkpoint)
        except OSError as error:
            raise ArtifactWriteError(f"the checkpoint {checkpoint} cannot be written ({error.strerror})") from error


def by_known_names(pair: ModelPair) -> ModelPair:
    """Return the pair by the names that data go by. Raises InvalidArgumentError where both are one model."""
    aliases = known_aliases()
    known = ModelPair(*(aliases.get(name, name) for name in pair))
    if known.strong == known.weak:
        raise InvalidArgumentError(
            f"the strong and the weak model are both {known.strong!r}: every win rate would be a half"
        )
    return known
