"""The C library by ctypes, as a program in another language meets it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from routellm_fast.c_abi import c_abi

OK, INVALID_ARGUMENT, NOT_FOUND, BAD_DIRECTORY, NO_EMBEDDER, OUT_OF_MEMORY = range(6)


class LoadOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32),
        ("strong_model", c_char_p),
        ("weak_model", c_char_p),
        ("threads", c_uint32),
        ("digest", c_char_p),
    ]


def library() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(c_abi().library))
    texts, floats, decisions = (POINTER(c_char_p), POINTER(c_size_t), c_size_t), POINTER(c_float), POINTER(c_uint8)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "abi_version": (c_uint32, ()),
        "version": (c_char_p, ()),
        "last_error": (c_char_p, ()),
        "load": (c_int, (c_char_p, POINTER(LoadOptions), POINTER(c_void_p))),
        "free": (None, (c_void_p,)),
        "kind": (c_char_p, (c_void_p,)),
        "digest": (c_char_p, (c_void_p,)),
        "strong_model": (c_char_p, (c_void_p,)),
        "weak_model": (c_char_p, (c_void_p,)),
        "dim": (c_size_t, (c_void_p,)),
        "reads_text": (c_int, (c_void_p,)),
        "model_count": (c_size_t, (c_void_p,)),
        "model_name": (c_char_p, (c_void_p, c_size_t)),
        "threshold_for": (c_int, (c_void_p, c_double, POINTER(c_double))),
        "win_rate": (c_int, (c_void_p, c_char_p, c_size_t, floats)),
        "win_rates": (c_int, (c_void_p, *texts, floats)),
        "win_rates_from_embeddings": (c_int, (c_void_p, floats, c_size_t, c_size_t, floats)),
        "route": (c_int, (c_void_p, c_char_p, c_size_t, c_double, floats, POINTER(c_int))),
        "route_batch": (c_int, (c_void_p, *texts, c_double, floats, decisions)),
        "route_embeddings": (c_int, (c_void_p, floats, c_size_t, c_size_t, c_double, floats, decisions)),
        "rank": (c_int, (c_void_p, c_char_p, c_size_t, floats)),
        "rank_embedding": (c_int, (c_void_p, floats, c_size_t, floats)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, f"routellm_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


class LibraryError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CRouter:
    """A router of the C library; all failures are LibraryError."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.lib = library()
        self._handle = c_void_p()
        given = LoadOptions(ctypes.sizeof(LoadOptions), **options)
        self._check(self.lib.routellm_load(str(directory).encode(), byref(given), byref(self._handle)))

    def __del__(self) -> None:
        self.lib.routellm_free(self._handle)

    def _check(self, status: int) -> None:
        if status != OK:
            raise LibraryError(status, self.lib.routellm_last_error().decode())

    def text(self, name: str) -> str:
        return getattr(self.lib, f"routellm_{name}")(self._handle).decode()

    @property
    def dim(self) -> int:
        return self.lib.routellm_dim(self._handle)

    @property
    def reads_text(self) -> bool:
        return bool(self.lib.routellm_reads_text(self._handle))

    @property
    def model_names(self) -> tuple[str, ...]:
        count = self.lib.routellm_model_count(self._handle)
        return tuple(self.lib.routellm_model_name(self._handle, index).decode() for index in range(count))

    def threshold_for(self, strong_share: float) -> float:
        threshold = c_double()
        self._check(self.lib.routellm_threshold_for(self._handle, strong_share, byref(threshold)))
        return threshold.value

    def win_rate(self, text: bytes) -> np.float32:
        out = c_float()
        self._check(self.lib.routellm_win_rate(self._handle, text, len(text), byref(out)))
        return np.float32(out.value)

    def win_rates(self, texts: Sequence[bytes]) -> np.ndarray:
        out = np.empty(len(texts), np.float32)
        self._check(self.lib.routellm_win_rates(self._handle, *_batch(texts), _floats(out)))
        return out

    def win_rates_from_embeddings(self, embeddings: np.ndarray) -> np.ndarray:
        out = np.empty(len(embeddings), np.float32)
        self._check(
            self.lib.routellm_win_rates_from_embeddings(
                self._handle, _floats(embeddings), *embeddings.shape, _floats(out)
            )
        )
        return out

    def route(self, text: bytes, threshold: float) -> tuple[float, bool]:
        win_rate, strong = c_float(), c_int()
        self._check(self.lib.routellm_route(self._handle, text, len(text), threshold, byref(win_rate), byref(strong)))
        return win_rate.value, bool(strong.value)

    def route_batch(self, texts: Sequence[bytes], threshold: float) -> tuple[np.ndarray, np.ndarray]:
        out, strong = np.empty(len(texts), np.float32), np.empty(len(texts), np.uint8)
        pointer = strong.ctypes.data_as(POINTER(c_uint8))
        self._check(self.lib.routellm_route_batch(self._handle, *_batch(texts), threshold, _floats(out), pointer))
        return out, strong

    def route_embeddings(self, embeddings: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        out, strong = np.empty(len(embeddings), np.float32), np.empty(len(embeddings), np.uint8)
        pointer = strong.ctypes.data_as(POINTER(c_uint8))
        self._check(
            self.lib.routellm_route_embeddings(
                self._handle, _floats(embeddings), *embeddings.shape, threshold, _floats(out), pointer
            )
        )
        return out, strong

    def rank(self, text: bytes) -> np.ndarray:
        out = np.empty(len(self.model_names), np.float32)
        self._check(self.lib.routellm_rank(self._handle, text, len(text), _floats(out)))
        return out

    def rank_embedding(self, embedding: np.ndarray) -> np.ndarray:
        out = np.empty(len(self.model_names), np.float32)
        self._check(self.lib.routellm_rank_embedding(self._handle, _floats(embedding), len(embedding), _floats(out)))
        return out


def _floats(array: np.ndarray) -> Any:
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    return array.ctypes.data_as(POINTER(c_float))


def _batch(texts: Sequence[bytes]) -> tuple[Any, Any, int]:
    count = len(texts)
    return (c_char_p * count)(*texts), (c_size_t * count)(*map(len, texts)), count
