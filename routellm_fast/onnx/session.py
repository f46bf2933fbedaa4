"""Run an ONNX graph on the device that was asked for, and nowhere else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from routellm_fast.errors import (
    ArtifactNotFoundError,
    InvalidArgumentError,
    OnnxModelError,
    OnnxRuntimesWarning,
    ProviderUnavailableError,
)
from routellm_fast.extras import onnx_runtimes, require
from routellm_fast.onnx._deadlines import deadline, run_deadline
from routellm_fast.onnx._memory import limit_memory
from routellm_fast.onnx._watched import WatchedFiles
from routellm_fast.onnx.admission import admit
from routellm_fast.onnx.captured import CapturedRuns
from routellm_fast.onnx.optimized import WEIGHTS_FILE, OptimizedModels
from routellm_fast.threads import available_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
DEVICES: Final = ("auto", "cpu", "cuda", "tensorrt")

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"
# What each device asks for, the preferred first: what one provider cannot run, the next one does.
_PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": (_CPU,),
    "cuda": (_CUDA, _CPU),
    "tensorrt": (_TENSORRT, _CUDA, _CPU),
}
_ERRORS_ONLY: Final = 3
_NUMPY_NAMES: Final = {"float": "float32", "double": "float64"}
# Files that a graph given as bytes may refer to: none. It has no folder, and the working directory is not its own.
_NO_FOLDER: Final = "/nonexistent/external-data-of-a-graph-in-memory"

# Far more than a run of a large model on a slow core takes.
RUN_TIMEOUT_S: Final = 300.0
_FOLD_LIMIT: Final = "optimization.constant_folding_max_output_size_in_bytes"

_EXTERNAL_FILE: Final = "session.optimized_model_external_initializers_file_name"
_EXTERNAL_FROM_BYTES: Final = "session.optimized_model_external_initializers_min_size_in_bytes"

# Shapes of one input: least, usual and largest, for engines that are built ahead.
Profile = tuple[Sequence[int], Sequence[int], Sequence[int]]
TensorInfo = tuple[str, tuple["int | str | None", ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a graph is run.

    Attributes:
        device: "cpu"; "cuda" or "tensorrt", which never fall back to the CPU unless allowed; "auto" takes CUDA where
            it works and the CPU elsewhere.
        threads: How many threads the CPU uses; None for as many as the process may use.
        allow_fallback: Whether a device that is not there may be replaced by the CPU.
        optimized_cache: A directory in which optimized graphs and engines are kept, so that later starts are shorter.
        cuda_graphs: Whether CUDA captures the launches of each shape and replays them; see CapturedRuns. For graphs
            whose every operator CUDA runs, and callers that pad to few shapes, as TextGraph does.
        run_timeout_s: Most seconds of one run, and of loading the graph (not with TensorRT, which builds engines then);
            None for no limit. It is looked at between two operators: one that has begun ends first. A captured
            graph of CUDA is replayed without this limit, once its shape has run within it.
        allow_any_graph: Whether a graph is run unchecked, and without a limit of memory: one of your own that holds
            loops, functions or operators of other domains. See `admission.admit` for what is allowed otherwise.
    """

    device: Device = "auto"
    threads: int | None = None
    allow_fallback: bool = False
    optimized_cache: Path | None = None
    cuda_graphs: bool = False
    run_timeout_s: float | None = RUN_TIMEOUT_S
    allow_any_graph: bool = False

    def __post_init__(self) -> None:
        """Refuse what no session can be made with."""
        if self.device not in DEVICES:
            raise InvalidArgumentError(f"a device is one of {', '.join(DEVICES)}, found {self.device!r}")
        if self.threads is not None and self.threads < 1:
            raise InvalidArgumentError(f"threads must be at least 1, found {self.threads}")
        if self.cuda_graphs and self.device not in ("auto", "cuda"):
            raise InvalidArgumentError(f"cuda_graphs needs the device cuda, found {self.device!r}")
        limit = self.run_timeout_s
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0):
            raise InvalidArgumentError(f"run_timeout_s is a number of seconds above 0, or None, found {limit!r}")
        if not isinstance(self.allow_any_graph, bool):
            raise InvalidArgumentError(f"allow_any_graph is True or False, found {self.allow_any_graph!r}")


class OnnxSession:
    """A graph that is ready to run. Immutable; `run` may be called from many threads.

    ONNX Runtime with GPU support but without a GPU runs on the CPU and says nothing: here the providers are compared
    with those that were asked for. Idle threads sleep instead of spinning: a router is one part of a service, and
    spinning would take cores from the others.

    A graph is data and no trusted program: it is refused if it holds loops, calls, files elsewhere or operators of
    others (`admission.admit`), its runs end at a deadline (`run_timeout_s`), and on the CPU the tensors of all
    such sessions of a process together take half of its memory at most, and 32 GiB at most (weights not counted);
    on a GPU its memory is the limit. What goes beyond raises OnnxModelError. Two things are not promised: one
    operator is not interrupted (a product of two matrices that fill the memory takes minutes), and a
    graph that was made to meet a fault of ONNX Runtime itself may end the process. So load graphs of people
    whom you do not trust at all in a process of their own. Engines of TensorRT that `optimized_cache` holds are
    programs: that folder must be one that only you can write to.
    """

    def __init__(
        self,
        model: bytes | str | Path,
        *,
        device: Device = "auto",
        threads: int | None = None,
        allow_fallback: bool = False,
        optimized_cache: str | Path | None = None,
        cuda_graphs: bool = False,
        run_timeout_s: float | None = RUN_TIMEOUT_S,
        allow_any_graph: bool = False,
        profiles: Mapping[str, Profile] | None = None,
        model_sha256: str | None = None,
    ) -> None:
        """Load a graph.

        Args:
            model: The graph, or its file. Weights in files of their own are found beside a file only, and only a graph
                given as bytes is kept in optimized_cache.
            device: See SessionOptions.
            threads: See SessionOptions.
            allow_fallback: See SessionOptions.
            optimized_cache: See SessionOptions.
            cuda_graphs: See SessionOptions.
            run_timeout_s: See SessionOptions.
            allow_any_graph: See SessionOptions.
            profiles: By input, for TensorRT: an input of a shape outside them would be an engine built anew, which
                takes seconds to minutes.
            model_sha256: Digest of the graph, hexadecimal, where it is known already: finding a graph in
                optimized_cache then saves more time than digesting it takes.

        Raises:
            InvalidArgumentError: No such device, or threads below 1.
            ArtifactNotFoundError: There is no such file.
            OnnxModelError: The graph is damaged, no ONNX, of operators that ONNX Runtime does not know or that are not
                allowed, or takes too long to load.
            ProviderUnavailableError: The device is not there, or does not work.
            MissingExtraError: onnxruntime is not installed.
        """
        cache = None if optimized_cache is None else Path(optimized_cache)
        options = SessionOptions(
            device=device,
            threads=threads,
            allow_fallback=allow_fallback,
            optimized_cache=cache,
            cuda_graphs=cuda_graphs,
            run_timeout_s=run_timeout_s,
            allow_any_graph=allow_any_graph,
        )
        source: bytes | Path = model if isinstance(model, bytes) else Path(model)
        if isinstance(source, Path) and not source.is_file():
            raise ArtifactNotFoundError(f"{source} is no file: expected an ONNX graph")
        self._model_sha256 = model_sha256
        self._admitted = None if allow_any_graph else admit(source)
        self._run_timeout_s = run_timeout_s
        self._runtime = require("onnxruntime", "onnx")
        if len(onnx_runtimes()) > 1:
            warnings.warn(_several_runtimes(), OnnxRuntimesWarning, stacklevel=2)
        # Weights in files of their own are mapped: those of `model`, and those of a kept graph.
        self._watched = WatchedFiles(None)
        self._session = self._open(source, options, profiles or {})
        replays = cuda_graphs and self._session.get_providers()[0] == _CUDA
        self._captured = CapturedRuns(self._session, self._runtime, run_timeout_s=run_timeout_s) if replays else None
        try:
            self._inputs = {entry.name: _info(entry) for entry in self._session.get_inputs()}
            self._outputs = {entry.name: _info(entry) for entry in self._session.get_outputs()}
        except UnicodeDecodeError as error:
            raise OnnxModelError("the ONNX graph is damaged: the name of an input or output is no UTF-8") from error

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime's names of what runs the graph, the preferred first."""
        return tuple(self._session.get_providers())

    @property
    def runs_on_cpu(self) -> bool:
        """Whether the CPU runs the graph, and not a GPU."""
        return self.providers[0] == _CPU

    @property
    def inputs(self) -> dict[str, TensorInfo]:
        """(dtype, shape) by name; a dimension that may vary is a name, or None."""
        return dict(self._inputs)

    @property
    def outputs(self) -> dict[str, TensorInfo]:
        """(dtype, shape) by name, as `inputs`."""
        return dict(self._outputs)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that the graph holds, by key. Raises OnnxModelError where it is damaged."""
        try:
            return dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise OnnxModelError("the ONNX graph is damaged: its metadata are no UTF-8") from error

    @property
    def replays(self) -> bool:
        """Whether each shape costs memory of its own, and runs faster from its second run on."""
        return self._captured is not None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name.

        Raises:
            InvalidArgumentError: An input is missing, unknown, or of another type or shape.
            OnnxModelError: The graph failed, e.g. for want of memory, or was stopped after run_timeout_s; or a file
                with its weights was changed in place.
        """
        self._check(inputs)
        self._watched.check()
        try:
            values = self._run(inputs) if self._captured is None else self._captured.run(inputs)
        except OnnxModelError:
            raise
        except Exception as error:  # the runtime's classes are not public
            raise OnnxModelError(
                f"the ONNX graph failed on inputs of shapes {_shapes(inputs)}: {_first_line(error)}"
            ) from error
        self._watched.check()
        return dict(zip(self._outputs, values, strict=True))

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        if self._run_timeout_s is None:
            return self._session.run(None, dict(inputs))
        options = self._runtime.RunOptions()
        with run_deadline(options, self._run_timeout_s):
            return self._session.run(None, dict(inputs), options)

    def _check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if inputs.keys() != self._inputs.keys():
            raise InvalidArgumentError(
                f"the graph reads {', '.join(self._inputs)}, found {', '.join(inputs) or 'nothing'}"
            )
        for name, value in inputs.items():
            dtype, shape = self._inputs[name]
            fits = value.ndim == len(shape) and all(
                expected == found for expected, found in zip(shape, value.shape, strict=True) if type(expected) is int
            )
            if not fits or value.dtype.name != dtype:
                raise InvalidArgumentError(
                    f"the graph's input {name} is {dtype} {shape}, found {value.dtype.name} {value.shape}"
                )

    def _open(self, source: bytes | Path, options: SessionOptions, profiles: Mapping[str, Profile]) -> Any:
        available = self._runtime.get_available_providers()
        wanted = _PROVIDERS.get(options.device, _PROVIDERS["cuda" if _CUDA in available else "cpu"])
        may_fall_back = options.allow_fallback or options.device == "auto"
        missing = [provider for provider in wanted if provider not in available]
        if missing and not may_fall_back:
            raise self._unavailable(options.device, f"this onnxruntime lacks {', '.join(missing)}")
        usable = tuple(provider for provider in wanted if provider in available)
        if usable == (_CPU,):
            return self._create(source, usable, options, profiles)
        try:
            session = self._create(source, usable, options, profiles)
        except OnnxModelError as error:
            # A graph that the CPU refuses too is at fault itself.
            on_cpu = self._create(source, (_CPU,), options, {})
            if may_fall_back:
                return on_cpu
            raise self._unavailable(options.device, str(error)) from error
        lost = [provider for provider in wanted if provider not in session.get_providers()]
        if lost and not may_fall_back:
            raise self._unavailable(
                options.device, f"{', '.join(lost)} did not start: a driver, library or GPU is missing"
            )
        return session

    def _create(
        self, source: bytes | Path, providers: Sequence[str], options: SessionOptions, profiles: Mapping[str, Profile]
    ) -> Any:
        given = [(name, _provider_options(name, options, profiles)) for name in providers]

        # TensorRT builds engines at this time, which takes as long as it takes.
        limit_s = None if _TENSORRT in providers else options.run_timeout_s

        def create(model: bytes | Path, write_to: Path | None = None, is_optimized: bool = False) -> Any:
            settings = self._settings(options)
            if self._admitted is not None and tuple(providers) == (_CPU,):
                for name, value in limit_memory(self._runtime).items():
                    settings.add_session_config_entry(name, value)
            if isinstance(model, bytes):
                settings.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
            if write_to is not None:
                settings.optimized_model_filepath = os.fspath(write_to)
                settings.add_session_config_entry(_EXTERNAL_FILE, WEIGHTS_FILE)
                settings.add_session_config_entry(_EXTERNAL_FROM_BYTES, "1024")
            if is_optimized:
                settings.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
            content = model if isinstance(model, bytes) else os.fspath(model)
            watched = WatchedFiles(None if isinstance(model, bytes) else model.parent)
            where = "the ONNX graph" if isinstance(model, bytes) else str(model)
            try:
                with deadline(limit_s, lambda: _cancel_loading(settings)) as watch:
                    # Its own fallback prints what it likes on standard output; ours is in _open.
                    session = self._runtime.InferenceSession(content, settings, providers=given, enable_fallback=0)
            except Exception as error:  # the runtime's classes are not public
                if watch is not None and watch.is_late:
                    raise OnnxModelError(
                        f"{where} was not loaded within {limit_s:g} s: give a longer run_timeout_s"
                    ) from error
                raise OnnxModelError(
                    f"{where} was refused by ONNX Runtime {self._runtime.__version__}: {_first_line(error)}"
                ) from error
            watched.open_mapped()
            self._watched = watched
            return session

        # Engines have a cache of their own, and a graph with weights in files of their own is not copied.
        if options.optimized_cache is None or tuple(providers) != (_CPU,) or not isinstance(source, bytes):
            return create(source)
        return OptimizedModels(options.optimized_cache, self._runtime.__version__).open(
            source, create, model_sha256=self._model_sha256
        )

    def _settings(self, options: SessionOptions) -> Any:
        settings = self._runtime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.intra_op_num_threads = options.threads or available_threads()
        settings.inter_op_num_threads = 1
        if self._admitted is not None:
            settings.add_session_config_entry(_FOLD_LIMIT, str(self._admitted.fold_limit_bytes))
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return settings

    def _unavailable(self, device: str, reason: str) -> ProviderUnavailableError:
        available = ", ".join(self._runtime.get_available_providers())
        message = (
            f"the device {device!r} cannot be used: {reason}. ONNX Runtime {self._runtime.__version__} has "
            f"{available}. GPUs need a driver, and onnxruntime-gpu in place of onnxruntime (pip uninstall --yes "
            "onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu); or choose device='cpu', or "
            "allow_fallback=True."
        )
        if len(onnx_runtimes()) > 1:
            message += f" Here {_several_runtimes()}."
        return ProviderUnavailableError(message)


def _cancel_loading(settings: Any) -> None:
    if hasattr(settings, "set_load_cancellation_flag"):  # ONNX Runtime 1.20 has it not
        settings.set_load_cancellation_flag(True)


def _several_runtimes() -> str:
    names = onnx_runtimes()
    return (
        f"{' and '.join(names)} are installed, which write into one folder: the one that was installed last runs, and "
        f"removing either breaks the other. Keep one: pip uninstall --yes {' '.join(names)}, then pip install "
        "onnxruntime, or onnxruntime-gpu for GPUs"
    )


def _provider_options(name: str, options: SessionOptions, profiles: Mapping[str, Profile]) -> dict[str, Any]:
    if name == _CUDA:
        # TF32 rounds the inputs of matrix products to 10 bits: win rates would differ from the CPU's.
        return {"use_tf32": "0", **({"enable_cuda_graph": "1"} if options.cuda_graphs else {})}
    if name != _TENSORRT:
        return {}
    found: dict[str, Any] = {}
    if options.optimized_cache is not None:
        folder = os.fspath(options.optimized_cache / "tensorrt")
        found |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
    for index, which in enumerate(("min", "opt", "max") if profiles else ()):
        shapes = (f"{name}:{'x'.join(map(str, shape[index]))}" for name, shape in sorted(profiles.items()))
        found[f"trt_profile_{which}_shapes"] = ",".join(shapes)
    return found


def _info(entry: Any) -> TensorInfo:
    dtype = str(entry.type).removeprefix("tensor(").removesuffix(")")
    return _NUMPY_NAMES.get(dtype, dtype), tuple(entry.shape)


def _shapes(inputs: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {np.shape(value)}" for name, value in inputs.items())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
