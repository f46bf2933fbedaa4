"""From raw text to a decision, with the mf router that ships."""

from __future__ import annotations
