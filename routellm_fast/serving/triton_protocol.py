"""What a router is called inside Triton: tensors and parameters, the same in every mode.

A request holds n rows of PROMPT or of EMBEDDING, and may hold n of THRESHOLD; the answer holds n rows of what was asked
for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
DEFAULT_THRESHOLD: Final = "default_threshold"
STRONG_MODEL: Final = "strong_model"
WEAK_MODEL: Final = "weak_model"
THREADS: Final = "threads"
DEVICE: Final = "device"
CALIBRATION: Final = "calibration"

# Where the router lies, from the model's version folder.
ROUTER_FOLDER: Final = "router"


def float32_threshold(threshold: float) -> np.float32:
    """Return the smallest float32 that is at least the threshold: win rates are float32, so decisions are the same."""
    narrow: np.float32 = np.float32(threshold)
    if float(narrow) < threshold:
        narrow = np.float32(np.nextafter(narrow, np.float32(2.0)))
    return narrow


def calibration_parameter(calibration: Calibration) -> str:
    """Return as text what a client needs of a calibration: its table."""
    kept = (calibration.dataset, calibration.prompt_count, calibration.table)
    return json.dumps(dict(zip(("dataset", "prompt_count", "table"), kept, strict=True)))


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
            stored, default = parameters.get(CALIBRATION), parameters.get(DEFAULT_THRESHOLD)
            calibration = Calibration.from_json(json.loads(stored)) if stored else None
            return cls(
                ModelPair(strong, weak) if strong and weak else None,
                calibration,
                max(int(config.get("max_batch_size", 0)), 1),
                inputs[EMBEDDING][-1] if EMBEDDING in inputs else None,
                PROMPT in inputs,
                check_share(float(default), DEFAULT_THRESHOLD) if default else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TritonAnswerError(
                f"the model {name!r} on the server is no router: {error}. `routellm-fast export triton` writes one."
            ) from error
