"""Causal language models of transformers, loaded from a folder, a GGUF file or bytes.

Weights come from safetensors or GGUF only, and no code from a model folder runs (`trust_remote_code` is never set).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    InvalidArgumentError,
    MissingExtraError,
)
from routellm_fast.extras import quiet_transformers, require
from routellm_fast.json_file import parse_json
from routellm_fast.routers.causal.folder import CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE, model_files
from routellm_fast.routers.causal.model import DTYPES, EXTRA, LanguageModel, check_dtype, resolve_device

# What transformers, safetensors and gguf raise on files that are no model, or not the one that config.json says.
_LOADING_FAULTS: Final = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError)


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
    with quiet_transformers(transformers), _named_faults(place):
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
    settings = parse_json(files[CONFIG_FILE], CONFIG_FILE)
    with quiet_transformers(transformers), _named_faults(where):
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


def chat_renderer(folder: Path, tokenizer: Path | None) -> Any:
    """Return `apply_chat_template` of a folder's tokenizer. It runs once, when a router is made, in a sandbox.

    Raises:
        InvalidArgumentError: The tokenizer has no chat template.
    """
    transformers = require("transformers", EXTRA)
    gguf = next((path for path in model_files(folder) if path.suffix == ".gguf"), None) if tokenizer is None else None
    place = tokenizer or (folder if folder.is_dir() else folder.parent)
    with quiet_transformers(transformers):
        found = transformers.AutoTokenizer.from_pretrained(
            place, local_files_only=True, **({} if gguf is None else {"gguf_file": gguf.name})
        )
    if not found.chat_template:
        raise InvalidArgumentError(
            f"the tokenizer in {place} has no chat template: give a PromptFormat, or one with a template"
        )
    return found.apply_chat_template


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
    with quiet_transformers(transformers):
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
