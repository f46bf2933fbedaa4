"""Triton's model configurations, as protobuf messages of tritonclient and as the text of config.pbtxt."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_fast.extras import require
from routellm_fast.serving.triton_protocol import (
    EMBEDDING,
    IS_STRONG,
    MODEL,
    PROMPT,
    THRESHOLD,
    WIN_RATE,
)

EXTRA: Final = "triton"
CONFIG_FILE: Final = "config.pbtxt"
WARMUP_FOLDER: Final = "warmup"
WARMUP_PROMPT: Final = "Prove that there are infinitely many primes."


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        name: The tensor's name.
        data_type: "STRING", "BOOL", "FP32" or "INT64".
        dims: Sizes without that of the batch; -1 where it is free.
        optional: Whether a request may lack it.
        is_flat: Whether the model knows it as (batch,), where Triton wants (batch, 1).
    """

    name: str
    data_type: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False
    is_flat: bool = False


DECISION: Final = (Tensor(WIN_RATE, "FP32"), Tensor(IS_STRONG, "BOOL"), Tensor(MODEL, "STRING"))
OPTIONAL_THRESHOLD: Final = Tensor(THRESHOLD, "FP32", optional=True)


def router_inputs(*, takes_prompts: bool, dim: int | None) -> list[Tensor]:
    """Return the inputs of a router. Of two ways to ask, each is optional."""
    both = takes_prompts and dim is not None
    inputs = [Tensor(PROMPT, "STRING", optional=both)] if takes_prompts else []
    inputs += [] if dim is None else [Tensor(EMBEDDING, "FP32", (dim,), optional=both)]
    return [*inputs, OPTIONAL_THRESHOLD]


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests meet in batches.

    Attributes:
        max_size: Most rows of a batch.
        delay_us: How long the first request waits for others.
        preferred_sizes: Sizes that are not waited beyond; at most max_size each.
        instances: How many copies of each model run at once.
        on_gpu: Whether the copies of the graph run on a GPU.
    """

    max_size: int
    delay_us: int
    preferred_sizes: tuple[int, ...]
    instances: int
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a repository.

    Attributes:
        name: The model's name.
        backend: Triton's backend; "" for an ensemble.
        platform: Triton's platform; "" where the backend says all.
        inputs: The model's inputs.
        outputs: The model's outputs.
        batching: How requests are put into batches; an ensemble uses max_size only.
        parameters: Parameters of the configuration, as text.
        warmup: Requests that are run before it is ready: (number at once, array a row by input).
        response_cache: Whether Triton may answer equal requests from its cache.
        steps: The steps of an ensemble, as (model, input map, output map); the maps go from the step's tensors to the
            ensemble's.
    """

    name: str
    backend: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    batching: Batching
    platform: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    warmup: Sequence[tuple[int, Mapping[str, Any]]] = ()
    response_cache: bool = False
    steps: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]] = ()

    def write(self, repository: Path, version: int) -> Path:
        """Write config.pbtxt and the warmup's data below a repository; return the version's folder, which is made."""
        folder = repository / self.name
        content = folder / str(version)
        content.mkdir(parents=True, exist_ok=True)
        for index, (_, rows) in enumerate(self.warmup):
            for name, row in rows.items():
                path = folder / WARMUP_FOLDER / _sample_file(index, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(_raw(row))
        text = require("google.protobuf.text_format", EXTRA).MessageToString(self.message())
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        return content

    def message(self) -> Any:
        """Return the configuration as inference.ModelConfig. Raises MissingExtraError."""
        proto = messages()
        batching = self.batching
        config = proto.ModelConfig(name=self.name, backend=self.backend, platform=self.platform)
        config.max_batch_size = batching.max_size
        for tensor in self.inputs:
            entry = config.input.add(name=tensor.name, dims=tensor.dims, optional=tensor.optional)
            entry.data_type = proto.DataType.Value(f"TYPE_{tensor.data_type}")
        for tensor in self.outputs:
            entry = config.output.add(name=tensor.name, dims=tensor.dims)
            entry.data_type = proto.DataType.Value(f"TYPE_{tensor.data_type}")
            if tensor.is_flat:
                entry.reshape.SetInParent()
        config.version_policy.latest.num_versions = 1
        for key in sorted(self.parameters):
            config.parameters[key].string_value = self.parameters[key]
        config.response_cache.enable = self.response_cache
        if self.steps:
            for name, inputs, outputs in self.steps:
                step = config.ensemble_scheduling.step.add(model_name=name, model_version=-1)
                step.input_map.update(inputs)
                step.output_map.update(outputs)
            return config
        config.dynamic_batching.max_queue_delay_microseconds = batching.delay_us
        config.dynamic_batching.preferred_batch_size.extend(batching.preferred_sizes)
        group = config.instance_group.add(count=batching.instances)
        group.kind = group.KIND_GPU if batching.on_gpu else group.KIND_CPU
        types = {tensor.name: tensor.data_type for tensor in self.inputs}
        for index, (count, rows) in enumerate(self.warmup):
            sample = config.model_warmup.add(name=f"sample {index}", batch_size=count)
            for name, row in rows.items():
                data = sample.inputs[name]
                data.data_type = proto.DataType.Value(f"TYPE_{types[name]}")
                data.dims.extend(np.shape(row) or (1,))
                data.input_data_file = _sample_file(index, name)
        return config


def messages() -> Any:
    """Return the module of Triton's configuration messages. Raises MissingExtraError."""
    return require("tritonclient.grpc", EXTRA).model_config_pb2


def _sample_file(index: int, name: str) -> str:
    return f"{index}-{name}"


def _raw(row: Any) -> bytes:
    """Return one row as Triton reads it from a file."""
    if isinstance(row, str):
        content = row.encode()
        return struct.pack("<I", len(content)) + content
    return np.ascontiguousarray(row).tobytes()
