"""What the contenders of sw_ranking are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

from benchmarks.harness.names import NUMPY

# Ours, by precision and, where it is not the default, the number of axes kept.
SW_FLOAT32: Final = "routellm_fast float32"
SW_INT8: Final = "routellm_fast int8"
SW_INT8_NARROW: Final = "routellm_fast int8, 128 axes"
SW_MOMENTS: Final = "routellm_fast moments"
SW_NAMES: Final = {"float32": SW_FLOAT32, "int8": SW_INT8, "int8, 128 axes": SW_INT8_NARROW, "moments": SW_MOMENTS}
SW_COMPRESSED: Final = (SW_INT8, SW_INT8_NARROW, SW_MOMENTS)
FAISS: Final = "faiss (scan only)"
USEARCH: Final = "usearch float32 (scan only)"
USEARCH_INT8: Final = "usearch int8 (scan only)"
SW_PEERS: Final = (NUMPY, FAISS, USEARCH, USEARCH_INT8)
