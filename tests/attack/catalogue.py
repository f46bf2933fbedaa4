"""All attacks: those of the modules of this folder whose names begin with on_."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.attack.harness import Attack


def attacks() -> list[Attack]:
    """Return all attacks, in the order of their modules' names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("on_*.py"))
    return [attack for name in names for attack in importlib.import_module(f"tests.attack.{name}").ATTACKS]
