from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import numpy as np

import routellm_fast as rf
from routellm_fast.arrays import brief_repr
from routellm_fast.calibration.probability import IsotonicMap
from tests.support.builders import mf_router


def test_a_calibration_is_one_short_line() -> None:
    calibration = rf.load_router().calibration
    assert calibration is not None
    assert len(repr(calibration)) <= 120
    assert "prompt_count=7504, table=<1,001 entries>" in repr(calibration)
    steps = tuple(np.linspace(0.0, 1.0, 500).tolist())
    whole = dataclasses.replace(calibration, win_rate_quantiles=steps, probability=IsotonicMap(steps, steps))
    assert len(repr(whole)) < 300
    assert "\n" not in repr(whole)


def test_long_contents_are_shown_by_their_size() -> None:
    @dataclasses.dataclass
    class Held:
        array: np.ndarray
        content: bytes
        by_name: dict[str, int]
        few: tuple[int, ...]
        text: str
        nothing: str | None = None

        __repr__ = brief_repr

    held = Held(np.zeros((1000, 3), np.float32), bytes(5000), dict.fromkeys("abcdefgh", 1), (1, 2), "x" * 999)
    shown = repr(held)
    assert "array=<float32 array of shape (1000, 3)>, content=<5,000 bytes>" in shown
    assert "by_name=<8 entries: a, b, c, d, …>, few=(1, 2), text='xxx" in shown
    assert len(shown) < 300
    assert "nothing" not in shown


def test_whatever_holds_a_calibration_is_short_too() -> None:
    assert len(repr(mf_router()._artifact())) < 400


def test_public_dataclasses_with_tables_and_arrays_use_it() -> None:
    """What a user gets from the public modules and prints."""
    long_fields = ("NDArray", "FloatArray", "bytes", "tuple[float, ...]", "tuple[tuple[")
    found = set()
    for package in ("calibration", "evaluation", "data", "thresholds", "onnx"):
        home = importlib.import_module(f"routellm_fast.{package}")
        for entry in pkgutil.iter_modules(home.__path__):
            if entry.ispkg or entry.name.startswith("_"):
                continue
            module = importlib.import_module(f"{home.__name__}.{entry.name}")
            for value in vars(module).values():
                is_own = isinstance(value, type) and value.__module__ == module.__name__
                if not is_own or not dataclasses.is_dataclass(value):
                    continue
                types = [str(field.type) for field in dataclasses.fields(value) if field.repr]
                if any(word in text for text in types for word in long_fields) and not value.__name__.startswith("_"):
                    found.add(value.__name__)
                    assert value.__repr__ is brief_repr, value
    assert {"Calibration", "Benchmark", "Battles", "Curve", "Sample"} <= found
