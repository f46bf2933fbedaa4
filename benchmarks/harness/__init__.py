"""What all subjects share: how time is measured, figures are kept, and reports are written."""

from __future__ import annotations
