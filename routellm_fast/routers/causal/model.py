"""A causal language model of transformers with its tokenizer, read at its last positions."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import InvalidArgumentError, ProviderUnavailableError, ScoringError
from routellm_fast.extras import require
from routellm_fast.routers.causal.folder import CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE, Reference
from routellm_fast.routers.causal.tokens import TextTokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA: Final = "transformers"
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
# A router directory is read into memory whole before its model is made.
MAX_COPY_BYTES: Final = 4 << 30


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
            InvalidArgumentError: The weights are larger than a directory should hold, or the configuration has a number
                that JSON cannot hold.
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
        try:
            settings = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
        except ValueError as error:
            raise InvalidArgumentError(
                f"the model's configuration cannot be written as JSON ({error}): keep the model by reference, "
                "from_pretrained(..., store='reference')"
            ) from error
        return {
            CONFIG_FILE: f"{settings}\n".encode(),
            MODEL_FILE: require("safetensors.torch", EXTRA).save(weights),
            TOKENIZER_FILE: self._tokenizer.to_str().encode(),
        }

    def _last(self, count: int) -> dict[str, int]:
        # Logits of a long prompt over a whole vocabulary would take more memory than the model.
        return {"logits_to_keep": count} if self._keeps_last else {}


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
