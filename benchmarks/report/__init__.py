"""The report on the routers that ship: `make benchmark`."""

from __future__ import annotations
