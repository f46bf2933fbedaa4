"""Names of contenders that several subjects have. Those of one subject stand in that subject's names.py."""

from __future__ import annotations

from typing import Final

NUMPY: Final = "numpy"
ROUTELLM: Final = "RouteLLM"
