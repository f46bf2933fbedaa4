"""Causal language models of transformers: loaded from a folder, a GGUF file or bytes, and read at their last positions.

Weights come from safetensors or GGUF only, and no code from a model folder runs (`trust_remote_code` is never set).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    InvalidArgumentError,
    MissingExtraError,
    ProviderUnavailableError,
    ScoringError,
)
from routellm_fast.extras import require
from routellm_fast.routers.causal.tokens import TextTokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA: Final = "transformers"
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
CONFIG_FILE: Final = "config.json"
MODEL_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
# A router directory is read into memory whole before its model is made.
MAX_COPY_BYTES: Final = 4 << 30
_HUB_FILES: Final = ("*.json", "*.safetensors", "*.txt", "*.model")
# What transformers, safetensors and gguf raise on files that are no model, or not the one that config.json says.
_LOADING_FAULTS: Final = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that a router directory names instead of holding it.

    Attributes:
        path: The folder, absolute.
        files: Of each file that makes the model, bytes and sha256.
    """

    path: str
    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> Reference:
        """Describe a model folder as it is now. Raises ArtifactNotFoundError where it holds no model."""
        return cls(str(folder.resolve()), {path.name: _digest(path) for path in model_files(folder)})

    @classmethod
    def from_json(cls, value: Any) -> Reference:
        """Read what to_json wrote. Raises ArtifactFormatError."""
        fits = isinstance(value, dict) and set(value) == {"path", "files"} and isinstance(value["path"], str)
        fits = fits and isinstance(value["files"], dict) and all(map(_is_file_entry, value["files"].items()))
        if not fits:
            raise ArtifactFormatError(
                "a causal_llm router names its model by path and files (each with bytes and sha256)"
            )
        return cls(value["path"], value["files"])

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest keeps."""
        return {"path": self.path, "files": {name: dict(entry) for name, entry in self.files.items()}}

    def check(self) -> Path:
        """Return the folder if every file in it is as recorded.

        Raises:
            ArtifactNotFoundError: The folder, or a file, is gone.
            ArtifactIntegrityError: A file was changed, or another one was added.
        """
        folder = Path(self.path)
        found = {path.name: path for path in model_files(folder)}
        for name in sorted({*found, *self.files}):
            if name not in found:
                raise ArtifactNotFoundError(f"{folder} lacks {name}, which is part of the router's model: put it back")
            if name not in self.files:
                raise ArtifactIntegrityError(
                    f"{folder / name} was no part of the router's model: take it away, or build the router again"
                )
            recorded, entry = self.files[name], _digest(found[name])
            for key in ("bytes", "sha256"):
                if entry[key] != recorded[key]:
                    raise ArtifactIntegrityError(
                        f"{folder / name} has {key} {entry[key]}, the router was built with {recorded[key]}: its model "
                        "is another one. Put the original file back, or build the router again."
                    )
        return folder


class LanguageModel:
    """A causal language model with its tokenizer, ready to be read. Immutable and thread-safe."""

    def __init__(self, module: Any, tokenizer: Any, *, reference: Reference | None) -> None:
        """Keep the parts.

        Args:
            module: A `*ForCausalLM` of transformers, in evaluation mode, on its device.
            tokenizer: A `tokenizers.Tokenizer`.
            reference: Where it came from, None where that is no folder to come back to.
        """
        self._torch = require("torch", EXTRA)
        self._module = module
        self._tokenizer = tokenizer
        self.reference = reference
        parameters = inspect.signature(module.forward).parameters
        self._keeps_last = "logits_to_keep" in parameters
        # Its name until transformers 5.
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"

    @property
    def module(self) -> Any:
        """The transformers model."""
        return self._module

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`."""
        return self._tokenizer

    @property
    def device(self) -> str:
        """Where it runs, e.g. "cpu" or "cuda:0"."""
        return str(self._module.device)

    @property
    def dtype(self) -> str:
        """The type of its weights, e.g. "float32"."""
        return str(self._module.dtype).removeprefix("torch.")

    @property
    def type_name(self) -> str:
        """The architecture as transformers names it, e.g. "llama"."""
        return str(self._module.config.model_type)

    @cached_property
    def parameter_count(self) -> int:
        """How many weights there are; shared ones count once."""
        return sum(weight.numel() for weight in self._module.parameters())

    @property
    def output_rows(self) -> int:
        """How many tokens the model can write."""
        return int(self._module.get_output_embeddings().weight.shape[0])

    @property
    def max_positions(self) -> int | None:
        """Tokens that it can read at once; None where the configuration does not say."""
        value = getattr(self._module.config, "max_position_embeddings", None)
        return value if isinstance(value, int) and value > 0 else None

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens at which generation ends."""
        config = getattr(self._module, "generation_config", None) or self._module.config
        value = config.eos_token_id
        return () if value is None else (value,) if isinstance(value, int) else tuple(value)

    @cached_property
    def tokens(self) -> TextTokens:
        """What makes tokens of texts."""
        return TextTokens(self._tokenizer)

    def prefix_cache(self, ids: Sequence[int]) -> Any:
        """Return what the layers make of tokens that many texts begin with, for `read`."""
        cache = require("transformers", EXTRA).DynamicCache(config=self._module.config)
        with self._torch.inference_mode():
            tokens = self._torch.tensor([list(ids)], device=self._module.device)
            self._module(tokens, **{self._cache_argument: cache}, use_cache=True, **self._last(1))
        return cache

    def read(
        self, rows: Sequence[Sequence[int]], *, last: int, columns: Sequence[int], prefix: tuple[int, Any] | None = None
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Run one pass over each row of tokens, all as one batch padded on the left.

        Args:
            rows: Tokens of n texts, each longer than the prefix.
            last: At how many last positions to look.
            columns: The tokens whose logits at the last position are wanted.
            prefix: How many tokens all rows begin with, and `prefix_cache` of these; None reads all.

        Returns:
            (n, last) the likeliest next token at each of the last positions, and (n, columns) float32 logits at the
            last one.

        Raises:
            ScoringError: A logit is not finite.
        """
        torch = self._torch
        known, cache = prefix or (0, None)
        longest = max(len(row) for row in rows)
        padded = [[0] * (longest - len(row)) + list(row[known:]) for row in rows]
        device = self._module.device
        arguments: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            own = copy.deepcopy(cache)  # a pass writes into it
            if len(rows) > 1:
                own.batch_repeat_interleave(len(rows))
            arguments[self._cache_argument] = own
        if any(len(row) != longest for row in rows):
            # Padding stands between the prefix, which is not padded, and the rest.
            mask = torch.tensor([[1] * known + [0] * (longest - len(row)) + [1] * (len(row) - known) for row in rows])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, known:]
            arguments |= {"attention_mask": mask.to(device), "position_ids": positions.to(device)}
        with torch.inference_mode():
            output = self._module(torch.tensor(padded, device=device), **arguments, **self._last(last))
            logits = output.logits[:, -last:].float()
            values = logits[:, -1, list(columns)]
            # The largest is NaN where any is.
            finite = torch.isfinite(values).all() & torch.isfinite(logits.amax(-1)).all()
            tops, chosen = logits.argmax(-1).cpu().numpy(), values.cpu().numpy()
        if not bool(finite):
            raise ScoringError(
                f"the model's logits are not finite in {self.dtype}: its weights are damaged, or too large for this "
                "type. Give dtype='float32' or 'bfloat16'."
            )
        return tops, chosen

    def moved(self, *, device: str, dtype: str) -> LanguageModel:
        """Return the model on another device or in another type; the same object where nothing changes."""
        torch = self._torch
        target = resolve_device(torch, device)
        wanted = self._module.dtype if dtype == "auto" else getattr(torch, check_dtype(dtype))
        if target == self._module.device and wanted == self._module.dtype:
            return self
        module = copy.deepcopy(self._module).to(device=target, dtype=wanted)
        return LanguageModel(module, self._tokenizer, reference=self.reference)

    def files(self) -> dict[str, bytes]:
        """Return configuration, weights and tokenizer, each as a file of a router directory.

        Raises:
            InvalidArgumentError: The weights are larger than a directory should hold.
        """
        size = sum(weight.numel() * weight.element_size() for weight in self._module.parameters())
        if size > MAX_COPY_BYTES:
            raise InvalidArgumentError(
                f"the model has {size:,} bytes, a router directory holds one of up to {MAX_COPY_BYTES:,}: keep it by "
                "reference, from_pretrained(..., store='reference')"
            )
        weights: dict[str, Any] = {}
        places = set()
        for name, tensor in self._module.state_dict().items():
            place = (tensor.device, tensor.data_ptr(), tuple(tensor.shape))
            if place not in places:  # tied weights have two names, and are tied again by the configuration
                places.add(place)
                weights[name] = tensor.detach().cpu().contiguous()
        config = self._module.config.to_dict()
        for key in ("quantization_config", "_name_or_path", "transformers_version"):  # of where it came from
            config.pop(key, None)
        config["dtype"] = self.dtype
        return {
            CONFIG_FILE: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
            MODEL_FILE: require("safetensors.torch", EXTRA).save(weights),
            TOKENIZER_FILE: self._tokenizer.to_str().encode(),
        }

    def _last(self, count: int) -> dict[str, int]:
        # Logits of a long prompt over a whole vocabulary would take more memory than the model.
        return {"logits_to_keep": count} if self._keeps_last else {}


def load_folder(
    folder: Path, *, tokenizer: Path | bytes | None = None, device: str = "auto", dtype: str = "auto"
) -> LanguageModel:
    """Load a folder with config.json, safetensors and a tokenizer, or with one GGUF file.

    Args:
        folder: The folder, or a GGUF file.
        tokenizer: A folder with the tokenizer where the model's own has none, or the text of a tokenizer.json.
        device: "auto", "cpu", "cuda" or "cuda:N"; auto takes CUDA where there is some.
        dtype: "float32", "bfloat16", "float16"; auto is float32 on a CPU, and as stored elsewhere.

    Raises:
        ArtifactNotFoundError: There is no model, or no tokenizer.
        ArtifactFormatError: They cannot be read.
        ProviderUnavailableError: The device is not there.
    """
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    target = resolve_device(torch, device)
    files = model_files(folder)
    options: dict[str, Any] = {"dtype": _dtype_on(torch, target, dtype), "local_files_only": True}
    gguf = next((path for path in files if path.suffix == ".gguf"), None)
    if gguf is not None:
        require("gguf", EXTRA)
        options |= {"gguf_file": gguf.name}
    else:
        options |= {"use_safetensors": True}
    place = files[0].parent
    backend = _tokenizer(transformers, tokenizer or place, gguf if tokenizer is None else None)
    with _quiet(transformers), _named_faults(place):
        module, report = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True, **options)
        _check_complete(report, place)
    return LanguageModel(module.eval().to(target), backend, reference=None)


def load_files(files: Mapping[str, bytes], *, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """Load what `LanguageModel.files` returned. See load_folder for the rest.

    Raises:
        ArtifactNotFoundError: A file is missing.
        ArtifactFormatError: One cannot be read, or they do not belong together.
    """
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    missing = [name for name in (CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE) if name not in files]
    if missing:
        raise ArtifactNotFoundError(f"a causal_llm router with a model of its own needs {', '.join(missing)}")
    target = resolve_device(torch, device)
    where = Path(MODEL_FILE)
    with _quiet(transformers), _named_faults(where):
        settings = json.loads(files[CONFIG_FILE])
        config = transformers.AutoConfig.for_model(**settings)
        weights = require("safetensors.torch", EXTRA).load(files[MODEL_FILE])
        architecture = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        module, report = architecture.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=_dtype_on(torch, target, dtype, stored=settings.get("dtype")),
            output_loading_info=True,
        )
        _check_complete(report, where)
    damaged = next((name for name, weight in module.named_parameters() if not bool(torch.isfinite(weight).all())), None)
    if damaged is not None:
        raise ArtifactIntegrityError(
            f"{MODEL_FILE}: {damaged} has a value that is not finite. Copy or save the directory again."
        )
    return LanguageModel(
        module.eval().to(target), _tokenizer(transformers, files[TOKENIZER_FILE], None), reference=None
    )


def model_files(folder: Path) -> list[Path]:
    """Return the files that make a model: config.json and safetensors, or a GGUF file. Raises ArtifactNotFoundError."""
    if folder.suffix == ".gguf" and folder.is_file():
        return [folder]
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        if (folder / CONFIG_FILE).is_file() and weights:
            index = folder / f"{MODEL_FILE}.index.json"
            return [folder / CONFIG_FILE, *weights, *([index] if index.is_file() else [])]
        found = sorted(folder.glob("*.gguf"))
        if len(found) == 1:
            return found
        if found:
            raise ArtifactNotFoundError(f"{folder} holds {len(found)} GGUF files: name one")
    raise ArtifactNotFoundError(
        f"{folder} holds no causal language model: expected config.json and *.safetensors, or one *.gguf"
    )


def fetched(directory_or_id: str | Path) -> Path:
    """Return a folder as it is, or a copy of a hub repository.

    Raises:
        ArtifactNotFoundError: It is neither.
        MissingExtraError: A hub's client is not installed.
    """
    path = Path(directory_or_id)
    name = str(directory_or_id)
    if path.exists() or name.count("/") != 1 or name.startswith(("/", ".", "~")):
        model_files(path)
        return path
    hub = require("huggingface_hub", EXTRA)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactNotFoundError(
            f"{name} is no directory, and no model that the hub gives ({type(error).__name__}: {reason[:200]})"
        ) from error


def resolve_device(torch: Any, device: str) -> Any:
    """Return the torch device. Raises InvalidArgumentError, or ProviderUnavailableError where it is not there."""
    name = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or str(name).endswith(":"):
        raise InvalidArgumentError(f"device is auto, cpu, cuda or cuda:N, found {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ProviderUnavailableError(
            f"{name} was asked for, torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices"
        )
    return torch.device("cpu" if kind == "cpu" else f"cuda:{int(index or 0)}")


def check_dtype(dtype: str) -> str:
    """Return the name of a type. Raises InvalidArgumentError."""
    if dtype not in DTYPES:
        raise InvalidArgumentError(f"dtype is one of {', '.join(DTYPES)}, found {dtype!r}")
    return dtype


def _dtype_on(torch: Any, device: Any, dtype: str, stored: str | None = None) -> Any:
    if check_dtype(dtype) != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    return getattr(torch, stored) if stored in DTYPES[1:] else "auto"


def _tokenizer(transformers: Any, source: Path | bytes, gguf: Path | None) -> Any:
    """Return a `tokenizers.Tokenizer`: the fast form is all that reading needs."""
    if isinstance(source, bytes):
        try:
            backend = require("tokenizers", EXTRA).Tokenizer.from_buffer(source)
        except MissingExtraError:
            raise
        except Exception as error:  # tokenizers raises nothing narrower
            raise ArtifactFormatError(
                f"{TOKENIZER_FILE} is no tokenizer that can be read ({str(error)[:200]})"
            ) from error
        return _uncut(backend)
    options = {} if gguf is None else {"gguf_file": gguf.name}
    with _quiet(transformers):
        try:
            found = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True, **options)
        except _LOADING_FAULTS as error:
            if gguf is not None:
                raise ArtifactFormatError(
                    f"{gguf} is no GGUF file that can be read ({str(error)[:200]}): copy or fetch it again"
                ) from error
            raise ArtifactNotFoundError(
                f"{source} holds no tokenizer ({str(error)[:200]}): give tokenizer=, a folder with one"
            ) from error
    if not getattr(found, "is_fast", False):
        raise ArtifactFormatError(
            f"the tokenizer in {source} has no fast form (tokenizer.json): convert it with transformers first"
        )
    return _uncut(found.backend_tokenizer)


def _uncut(tokenizer: Any) -> Any:
    """Without a length to cut or pad to, which a tokenizer.json may hold from its training."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def chat_renderer(folder: Path, tokenizer: Path | None) -> Any:
    """Return `apply_chat_template` of a folder's tokenizer. It runs once, when a router is made, in a sandbox.

    Raises:
        InvalidArgumentError: The tokenizer has no chat template.
    """
    transformers = require("transformers", EXTRA)
    gguf = next((path for path in model_files(folder) if path.suffix == ".gguf"), None) if tokenizer is None else None
    place = tokenizer or (folder if folder.is_dir() else folder.parent)
    with _quiet(transformers):
        found = transformers.AutoTokenizer.from_pretrained(
            place, local_files_only=True, **({} if gguf is None else {"gguf_file": gguf.name})
        )
    if not found.chat_template:
        raise InvalidArgumentError(
            f"the tokenizer in {place} has no chat template: give a PromptFormat, or one with a template"
        )
    return found.apply_chat_template


def _check_complete(report: Mapping[str, Any], where: Path) -> None:
    """A weight that is not in the file would be random: never a score by such a model."""
    wrong = [(what, sorted(map(str, report.get(what, ())))) for what in ("missing_keys", "mismatched_keys")]
    for what, names in wrong:
        if names:
            raise ArtifactFormatError(
                f"{where}: {len(names)} weights are {what.removesuffix('_keys')}, the first is {names[0]}"
            )


@contextmanager
def _named_faults(where: Path) -> Iterator[None]:
    safetensors = require("safetensors", EXTRA)
    try:
        yield
    except (ArtifactFormatError, MissingExtraError):
        raise
    except (*_LOADING_FAULTS, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactFormatError(
            f"{where} is no causal language model that transformers reads ({type(error).__name__}: {reason[:300]})"
        ) from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no advice of transformers' on a terminal that is ours."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The bar of its GGUF reader heeds no setting.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _is_file_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    fits = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"} and "/" not in name
    return fits and type(entry["bytes"]) is int and isinstance(entry["sha256"], str)


def _digest(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise ArtifactNotFoundError(f"{path} cannot be read ({error.strerror})") from error
    return {"bytes": size, "sha256": digest.hexdigest()}
