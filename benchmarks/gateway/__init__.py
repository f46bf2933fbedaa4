"""The gateway under load, beside other gateways."""

from __future__ import annotations
