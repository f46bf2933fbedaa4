"""ONNX to a TensorRT plan: strongly typed, with profiles, and with the precision looked up in what was built.

TensorRT 10 builds typed networks when asked, 11 and TensorRT-RTX build no others: precision comes from the graph alone,
and a flag that asks for another would be ignored or gone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import EngineBuildError, InvalidArgumentError, MissingExtraError
from routellm_fast.extras import require
from routellm_fast.kept_file import read_kept, write_kept

from ._gpu import current_gpu

RUNTIMES: Final = ("auto", "tensorrt", "tensorrt_rtx")
_TRT_NAMES: Final = {"FLOAT16": "HALF", "BFLOAT16": "BF16"}

# Shapes of an input: least, usual and largest.
Profile = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine.

    Attributes:
        plan: The engine, serialized.
        network_types: How many of the network's layers give each type, e.g. {"FLOAT": 40, "HALF": 12}.
        engine_types: The same of the built engine's layers; None where no GPU could load it.
    """

    plan: bytes
    network_types: Mapping[str, int]
    engine_types: Mapping[str, int] | None

    __repr__ = brief_repr


def tensorrt_module(runtime: str = "auto") -> Any:
    """Return tensorrt or tensorrt_rtx.

    Raises:
        InvalidArgumentError: Neither was asked for.
        MissingExtraError: It is not installed.
    """
    if runtime not in RUNTIMES:
        raise InvalidArgumentError(f"the runtime must be one of {', '.join(RUNTIMES)}, found {runtime!r}")
    names = ("tensorrt", "tensorrt_rtx") if runtime == "auto" else (runtime,)
    for name in names:
        with suppress(MissingExtraError):
            return require(name, "tensorrt")
    raise MissingExtraError(
        f"{' and '.join(names)} cannot be imported. Install a TensorRT that fits your driver: pip install "
        "--extra-index-url https://pypi.nvidia.com tensorrt-cu13 (only NVIDIA's index holds its libraries), or "
        "pip install tensorrt-rtx-cu13, which also builds without a GPU"
    )


def build_engine(
    model: Path,
    profiles: Mapping[str, Profile],
    *,
    runtime: str = "auto",
    targets: Sequence[str] = (),
    timing_cache: Path | None = None,
) -> Engine:
    """Parse a graph and build an engine.

    Args:
        model: model.onnx.
        profiles: Shapes of every input with a dimension that may vary.
        runtime: "tensorrt", "tensorrt_rtx", or "auto" for the first that is installed.
        targets: Compute capabilities, e.g. "8.9"; none: all that TensorRT-RTX knows, which takes that many times as
            long, and for TensorRT the GPU that is there.
        timing_cache: File of measured kernels, read if it is there and written; TensorRT-RTX has no use for it.

    Raises:
        EngineBuildError: The graph cannot be parsed, no engine can be built, or one of another precision than the
            graph's.
        MissingExtraError: TensorRT is not installed.
    """
    trt = tensorrt_module(runtime)
    log = _log(trt)
    builder = trt.Builder(log)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        reasons = "; ".join(str(parser.get_error(index).desc()) for index in range(parser.num_errors))
        raise EngineBuildError(f"{trt.__name__} {trt.__version__} cannot parse the graph: {reasons or log.last}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_targets(trt, config, targets)
    _add_profiles(builder, network, config, profiles)
    cache = _timing_cache(trt, config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildError(f"{trt.__name__} {trt.__version__} cannot build an engine of the graph: {log.last}")
    if cache is not None and timing_cache is not None:
        write_kept(timing_cache, bytes(config.get_timing_cache().serialize()))
    content = bytes(plan)
    engine = Engine(content, _network_types(network), _engine_types(trt, log, content))
    _check_types(engine, model)
    return engine


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error for our own, and prints nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.last = "no reason was given"

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = text

    return Log()


def _add_profiles(builder: Any, network: Any, config: Any, profiles: Mapping[str, Profile]) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        entry = network.get_input(index)
        if -1 not in tuple(entry.shape):
            continue
        if entry.name not in profiles:
            raise InvalidArgumentError(
                f"input {entry.name} has the shape {tuple(entry.shape)}: give least, usual and largest shapes"
            )
        profile.set_shape(entry.name, *profiles[entry.name])
    if config.add_optimization_profile(profile) < 0:
        raise InvalidArgumentError(f"the shapes {dict(profiles)} do not fit the graph's inputs")


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """Build for these compute capabilities only; TensorRT itself builds for the GPU that is there."""
    if not targets:
        return
    known = getattr(trt, "ComputeCapability", None)
    names = ["SM" + target.replace(".", "") for target in targets]
    unknown = [target for target, name in zip(targets, names, strict=True) if not hasattr(known, name)]
    if unknown:
        raise InvalidArgumentError(
            f"{trt.__name__} {trt.__version__} cannot build for compute capability {unknown[0]!r}"
        )
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(known, name), index)


def _timing_cache(trt: Any, config: Any, path: Path | None) -> Any:
    if path is None or trt.__name__ == "tensorrt_rtx":
        return None
    cache = config.create_timing_cache(read_kept(path) or b"")
    # One of another version or GPU is refused; an empty one is then filled.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            return None
    return cache


def _network_types(network: Any) -> dict[str, int]:
    found: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            found[layer.get_output(0).dtype.name] += 1
    return dict(sorted(found.items()))


def _engine_types(trt: Any, log: Any, plan: bytes) -> dict[str, int] | None:
    """Return what the built engine's layers give, by its inspector; None without a GPU that can load it."""
    if current_gpu() is None:
        return None
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    found: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        for output in layer.get("Outputs", []) if isinstance(layer, dict) else []:
            found[str(output.get("Format/Datatype", output.get("Datatype", "unknown")))] += 1
    return dict(sorted(found.items()))


def _check_types(engine: Engine, model: Path) -> None:
    """Raise EngineBuildError unless the network has every low type of the graph's weights, and no other."""
    onnx = require("onnx", "onnx")
    graph = onnx.load_model(model, load_external_data=False).graph
    names = {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}
    floats = {_TRT_NAMES[name] for name in _TRT_NAMES if name in names}
    found = {name for name in engine.network_types if name in _TRT_NAMES.values()}
    if floats != found:
        raise EngineBuildError(
            f"the graph's weights are {', '.join(sorted(floats)) or 'FLOAT'}, the network's layers "
            f"{dict(engine.network_types)}: the engine would be of another precision. Nothing was written."
        )
