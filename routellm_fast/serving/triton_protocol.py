"""What a router is called inside Triton: tensors and parameters, the same in every mode.

A request holds n rows of PROMPT or of EMBEDDING, and may hold n of THRESHOLD; the answer holds n rows of what was asked
for.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np

from routellm_fast.calibration import Calibration
from routellm_fast.decision import ModelPair, check_share
from routellm_fast.errors import TritonAnswerError

DEFAULT_NAME: Final = "router"

PROMPT: Final = "PROMPT"  # BYTES [1]: UTF-8
EMBEDDING: Final = "EMBEDDING"  # FP32 [dim]
THRESHOLD: Final = "THRESHOLD"  # FP32 [1], optional: default_threshold
WIN_RATE: Final = "WIN_RATE"  # FP32 [1]
IS_STRONG: Final = "IS_STRONG"  # BOOL [1]
MODEL: Final = "MODEL"  # BYTES [1]: the name of the model that was chosen

ROUTER_DIRECTORY: Final = "router_directory"
DIRECTORY_DIGEST: Final = "directory_digest"
DEFAULT_THRESHOLD: Final = "default_threshold"
STRONG_MODEL: Final = "strong_model"
WEAK_MODEL: Final = "weak_model"
THREADS: Final = "threads"
DEVICE: Final = "device"
# The server that the router's embedder may ask, whose address lies in the router's directory.
ALLOW_SERVER: Final = "allow_server"
# Only clients read it: a server gives out a model's configuration and no other file. Exports of earlier versions wrote
# the table as plain JSON, under the second name.
CALIBRATION_TABLE: Final = "calibration_table"
CALIBRATION: Final = "calibration"

# Where the router lies, from the model's version folder.
ROUTER_FOLDER: Final = "router"
# For people, beside config.pbtxt.
CALIBRATION_FILE: Final = "calibration.json"
# Far more than a table of a million rows takes: what a server sends must not fill the memory.
_MOST_BYTES: Final = 1 << 25
_MOST_TEXT: Final = 1000
# What float64 holds of a number in [0, 1]; a table rounded by hand needs fewer.
_MOST_DECIMALS: Final = 17


def float32_threshold(threshold: float) -> np.float32:
    """Return the smallest float32 that is at least the threshold: win rates are float32, so decisions are the same."""
    narrow: np.float32 = np.float32(threshold)
    if float(narrow) < threshold:
        narrow = np.float32(np.nextafter(narrow, np.float32(2.0)))
    return narrow


def calibration_parameter(calibration: Calibration) -> str:
    """Return as text what a client needs of a calibration: its table, packed without loss, 3.4 kB for 1,001 rows."""
    shares, thresholds = (_packed(column) for column in zip(*calibration.table, strict=True))
    table: Any = calibration.table
    if shares is not None and thresholds is not None:
        content = json.dumps([shares, thresholds], separators=(",", ":")).encode()
        table = base64.b64encode(zlib.compress(content, 9)).decode()
    return json.dumps({"dataset": calibration.dataset, "prompt_count": calibration.prompt_count, "table": table})


def calibration_page(calibration: Calibration) -> str:
    """Return the same table as JSON for people to read, one row a line."""
    rows = ",\n".join(f"  [{share!r}, {threshold!r}]" for share, threshold in calibration.table)
    dataset = json.dumps(calibration.dataset, ensure_ascii=False)
    return (
        f'{{\n "dataset": {dataset},\n "prompt_count": {calibration.prompt_count},\n'
        f' "columns": ["strong share", "threshold"],\n "table": [\n{rows}\n ]\n}}\n'
    )


def calibration_of(parameters: Mapping[str, str]) -> Calibration | None:
    """Return the calibration that a model's parameters hold, None where they hold none. Raises ValueError."""
    text = parameters.get(CALIBRATION_TABLE) or parameters.get(CALIBRATION)
    if not text:
        return None
    stored = json.loads(text)
    if isinstance(stored.get("table"), str):
        try:
            content = zlib.decompressobj().decompress(base64.b64decode(stored["table"], validate=True), _MOST_BYTES)
            stored["table"] = list(zip(*map(_unpacked, json.loads(content)), strict=True))
        except (binascii.Error, zlib.error, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"the parameter {CALIBRATION_TABLE} is damaged ({error})") from error
    return Calibration.from_json(stored)


def _packed(column: Sequence[float]) -> list[int] | None:
    """Return numbers as [decimals, first, steps…] in units of the last decimal; None where that would lose a bit."""
    for decimals in range(_MOST_DECIMALS + 1):
        units = [round(number * 10**decimals) for number in column]
        if all(unit / 10**decimals == number for unit, number in zip(units, column, strict=True)):
            return [decimals, units[0], *(after - before for before, after in pairwise(units))]
    return None


def _unpacked(packed: Sequence[int]) -> list[float]:
    decimals, *steps = packed
    if not 0 <= decimals <= _MOST_DECIMALS:
        raise ValueError(f"{decimals} decimals, expected 0 to {_MOST_DECIMALS}")
    return [unit / 10**decimals for unit in accumulate(steps)]


@dataclass(frozen=True, slots=True)
class Served:
    """What a model's configuration tells a client.

    Attributes:
        model_pair: The models that prompts are sent to; None where the configuration does not say.
        calibration: The router's calibration; None where it has none.
        max_batch_size: Most rows of a request.
        dim: Length of an embedding; None where the model takes none.
        takes_prompts: Whether it takes prompts.
        default_threshold: The threshold of requests that bring none; None where the configuration does not say.
    """

    model_pair: ModelPair | None
    calibration: Calibration | None
    max_batch_size: int
    dim: int | None
    takes_prompts: bool
    default_threshold: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Served:
        """Read a configuration in Triton's JSON form. Raises TritonAnswerError where it is not one of a router."""
        try:
            inputs = {entry["name"]: [int(size) for size in entry["dims"]] for entry in config.get("input", ())}
            outputs = {entry["name"] for entry in config.get("output", ())}
            parameters = {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}
            if not outputs >= {WIN_RATE, IS_STRONG, MODEL} or not inputs.keys() & {PROMPT, EMBEDDING}:
                raise ValueError(f"its inputs are {sorted(inputs)}, its outputs {sorted(outputs)}")
            strong, weak = parameters.get(STRONG_MODEL), parameters.get(WEAK_MODEL)
            default = parameters.get(DEFAULT_THRESHOLD)
            if not all(isinstance(name, str) for name in (strong, weak) if name):
                raise ValueError(f"its models are {strong!r} and {weak!r}"[:_MOST_TEXT])
            if EMBEDDING in inputs and (len(inputs[EMBEDDING]) != 1 or inputs[EMBEDDING][0] == 0):
                raise ValueError(f"its {EMBEDDING} has the shape {inputs[EMBEDDING][:8]}")
            return cls(
                ModelPair(strong, weak) if strong and weak else None,
                calibration_of(parameters),
                max(int(config.get("max_batch_size", 0)), 1),
                inputs[EMBEDDING][-1] if EMBEDDING in inputs else None,
                PROMPT in inputs,
                check_share(float(default), DEFAULT_THRESHOLD) if default else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise TritonAnswerError(
                f"the model {name!r} on the server is no router: {str(error)[:_MOST_TEXT]}. "
                "`routellm-fast export triton` writes one."
            ) from error
