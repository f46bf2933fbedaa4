"""Smaller forms of the battles."""
from __future__ import annotations
from typing import Any
Compressed = Any
def compress(*a: Any) -> Any: raise NotImplementedError
def extend(*a: Any) -> Any: raise NotImplementedError
def read_compressed(*a: Any) -> Any: raise NotImplementedError
