"""Graphs that read texts: token ids in, one row a text out, in length buckets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError, OnnxModelError
from routellm_fast.onnx.session import OnnxSession, Profile, SessionOptions
from routellm_fast.onnx.tokens import TokenEncoder
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAPH_INPUTS: Final = ("input_ids", "attention_mask")

# On a GPU each shape is an engine or a captured graph of its own: few lengths. On a CPU only padding costs.
_GPU_LENGTHS: Final = (16, 32, 64, 128, 256, 512)
_GPU_ROWS: Final = (1, 4, 16, 64, 256)
_CPU_STEP: Final = 16
# Bounds the memory of a run: attention holds a square of the length for each text and head.
_MAX_TOKENS_PER_RUN: Final = 4096
# An operator that scales its input by the largest value in it, over all texts of a run.
_BATCH_WIDE_OPERATORS: Final = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul")


class TextGraph:
    """A graph from (n, length) token ids and their mask to n rows. Immutable and thread-safe.

    Texts are sorted into buckets by their number of tokens, and padded to the bucket's length, never to the longest
    text beside them. So a text always runs at the same length, and on the CPU its row has the same bits whatever else
    is in the batch and however many threads there are. A graph with dynamic int8 quantization takes its scales from all
    texts of a run: with such a graph, texts run one by one. GPUs choose kernels by the size of a batch, and
    promise no such thing.
    """

    def __init__(
        self,
        model: bytes,
        tokenizer_json: bytes,
        *,
        output: str,
        output_rank: int,
        max_tokens: int,
        pad_id: int,
        options: SessionOptions | None = None,
        model_sha256: str | None = None,
    ) -> None:
        """Load graph and tokenizer.

        Args:
            model: The graph: inputs `input_ids` and `attention_mask`, both int64 (texts, tokens).
            tokenizer_json: The tokenizer.json of the model.
            output: The output to return, float32, texts first.
            output_rank: How many dimensions that output has.
            max_tokens: Most tokens of a text, special ones included; texts are cut there.
            pad_id: Id of the token that shorter texts are padded with.
            options: How to run it.
            model_sha256: See OnnxSession.

        Raises:
            OnnxModelError: The graph is damaged, or another one.
            RouteLLMError: See OnnxSession and TokenEncoder.
        """
        if type(max_tokens) is not int or type(pad_id) is not int or pad_id < 0:
            raise InvalidArgumentError(
                f"max_tokens and pad_id are integers, the latter at least 0; found {max_tokens!r} and {pad_id!r}"
            )
        self._tokens = TokenEncoder(tokenizer_json, max_tokens)
        options = options or SessionOptions()
        self._session = OnnxSession(
            model,
            device=options.device,
            threads=options.threads,
            allow_fallback=options.allow_fallback,
            optimized_cache=options.optimized_cache,
            cuda_graphs=options.cuda_graphs,
            run_timeout_s=options.run_timeout_s,
            allow_any_graph=options.allow_any_graph,
            model_sha256=model_sha256,
            profiles=_profiles(max_tokens) if options.device == "tensorrt" else None,
        )
        self._check(output, output_rank)
        self._output, self._max_tokens, self._pad_id = output, max_tokens, pad_id
        self._row_shape = self._session.outputs[output][1][1:]
        self._on_cpu = self._session.runs_on_cpu
        self._one_by_one = any(name in model for name in _BATCH_WIDE_OPERATORS)

    @property
    def session(self) -> OnnxSession:
        """The session of ONNX Runtime that runs the graph."""
        return self._session

    @property
    def tokens(self) -> TokenEncoder:
        """The tokenizer that turns texts into token ids."""
        return self._tokens

    @property
    def width(self) -> int | str | None:
        """The last dimension of the output, where it is fixed."""
        return self._session.outputs[self._output][1][-1]

    def run(self, texts: Sequence[str]) -> list[FloatArray]:
        """Return the output's row of each text.

        Raises:
            TypeError: An element is not str; the text names it.
            OnnxModelError: The graph failed, was stopped after run_timeout_s, or made rows of another shape or a value
                that is not finite; the text names the text's index.
        """
        ids = self._tokens.encode(check_texts(texts))
        rows: list[Any] = [None] * len(ids)
        for members, length in self._runs(ids):
            found = [ids[index] for index in members]
            if self._session.replays:
                found += [found[0]] * (rows_of(len(found)) - len(found))
            values = self._session.run(self._padded(found, length))[self._output]
            if self._session.replays:
                values = values[: len(members)]
            self._check_rows(values, len(members))
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if not finite.all():
                first = members[int(np.argmin(finite))]
                raise OnnxModelError(
                    f"the graph's {self._output} of text {first} is not finite: its weights are damaged"
                )
            for index, row in zip(members, values, strict=True):
                rows[index] = row
        return rows

    def inputs(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for texts, all padded to the bucket of the longest."""
        ids = self._tokens.encode(check_texts(texts))
        return self._padded(ids, self.bucket(max(map(len, ids), default=0)))

    def _padded(self, ids: Sequence[Sequence[int]], length: int) -> dict[str, NDArray[Any]]:
        tokens = np.full((len(ids), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(ids), length), dtype=np.int64)
        for row, found in enumerate(ids):
            tokens[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return dict(zip(GRAPH_INPUTS, (tokens, mask), strict=True))

    def bucket(self, count: int) -> int:
        """Return the length that a text of so many tokens is padded to."""
        if self._on_cpu:
            length = max(-(-count // _CPU_STEP), 1) * _CPU_STEP
        else:
            length = next((length for length in _GPU_LENGTHS if length >= count), self._max_tokens)
        return min(length, self._max_tokens)

    def _runs(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int]]:
        buckets: dict[int, list[int]] = {}
        for index, found in enumerate(ids):
            buckets.setdefault(self.bucket(len(found)), []).append(index)
        for length, members in sorted(buckets.items()):
            size = 1 if self._one_by_one else max(1, _MAX_TOKENS_PER_RUN // length)
            for start in range(0, len(members), size):
                yield members[start : start + size], length

    def _check_rows(self, values: NDArray[Any], count: int) -> None:
        """What a graph says of its output is a claim, which the runtime does not hold it to."""
        shape = values.shape[1:]
        fits = values.ndim == 1 + len(self._row_shape) and len(values) == count
        if not fits or any(
            type(said) is int and said != found for said, found in zip(self._row_shape, shape, strict=True)
        ):
            raise OnnxModelError(
                f"the graph's {self._output} of {count} texts has the shape {values.shape}, expected "
                f"({', '.join(map(str, (count, *self._row_shape)))}): the graph is another one, or damaged"
            )

    def _check(self, output: str, rank: int) -> None:
        session = self._session
        fits = set(session.inputs) == set(GRAPH_INPUTS) and all(
            dtype == "int64" and len(shape) == 2 and not any(type(size) is int for size in shape)
            for dtype, shape in session.inputs.values()
        )
        found = session.outputs.get(output)
        if not fits or found is None or found[0] != "float32" or len(found[1]) != rank:
            raise OnnxModelError(
                f"the graph is another one: expected int64 {' and '.join(GRAPH_INPUTS)} of any number of texts and "
                f"tokens, and a float32 {output} of {rank} dimensions; found {session.inputs} and {session.outputs}"
            )


def rows_of(count: int) -> int:
    """Return to how many rows a run of so many texts is padded where every shape is a captured graph of its own."""
    return next((rows for rows in _GPU_ROWS if rows >= count), count)


def check_text_settings(settings: Any, what: str) -> None:
    """Raise ArtifactFormatError unless settings of a directory hold max_tokens and pad_id."""
    keys = ("max_tokens", "pad_id")
    if (
        not isinstance(settings, dict)
        or set(settings) != set(keys)
        or any(type(settings[key]) is not int for key in keys)
    ):
        raise ArtifactFormatError(f"{what}'s settings hold the integers max_tokens and pad_id, found {settings!r}")


def _profiles(max_tokens: int) -> dict[str, Profile]:
    shortest = min(_GPU_LENGTHS[0], max_tokens)
    most = max(1, _MAX_TOKENS_PER_RUN // shortest)
    shapes: Profile = ((1, shortest), (8, min(64, max_tokens)), (most, max_tokens))
    return dict.fromkeys(GRAPH_INPUTS, shapes)
