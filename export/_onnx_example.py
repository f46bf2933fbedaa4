"""What an export holds besides its graph, to be used without this package: a tokenizer, and code to start from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from routellm_fast.embedders.onnx import OnnxEmbedder
from routellm_fast.embedders.static import TOKENIZER_FILE
from routellm_fast.routers.bert import BertRouter
from routellm_fast.routers.causal.router import CausalLLMRouter
from routellm_fast.routers.causal.tokens import TextTokens

from . import surface_features
from ._exportable import Exportable
from ._model_file import MODEL_FILE
from ._scorer_graphs import EMBEDDINGS
from ._static_graph import SURFACE_FEATURES, StaticParts

EXAMPLE_FILE: Final = "example.py"
FEATURES_FILE: Final = "surface_features.py"

_HEAD: Final = '''"""Win rates of prompts by model.onnx: `python example.py "a prompt" "another"`. Needs {needs}.

Written by `routellm-fast export onnx`.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
{imports}
STRONG_MODEL, WEAK_MODEL = {strong!r}, {weak!r}
{threshold}
FOLDER = Path(__file__).resolve().parent
session = onnxruntime.InferenceSession(str(FOLDER / "{model}"), providers=["{provider}"])
'''
_TOKENIZER: Final = """tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()
"""
_MAIN: Final = """

prompts = [text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for text in sys.argv[1:]]
prompts = prompts or ["Prove that there are infinitely many primes."]
{rows}
length = max(1, *(len(row) for row in rows))
{padded}
for prompt, win_rate in zip(prompts, session.run(["win_rate"], feeds)[0]):
    print(f"{{win_rate:.6f}}  {{STRONG_MODEL if win_rate >= THRESHOLD else WEAK_MODEL}}  {{prompt[:60]!r}}")
"""
_ON_THE_RIGHT: Final = """input_ids = np.array([[*row, *[{pad}] * (length - len(row))] for row in rows], dtype=np.int64)
attention_mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
feeds = {{"input_ids": input_ids, "attention_mask": attention_mask}}"""
_ON_THE_LEFT: Final = """input_ids = np.array([[*[0] * (length - len(row)), *row] for row in rows], dtype=np.int64)
attention_mask = np.array([[0] * (length - len(row)) + [1] * len(row) for row in rows], dtype=np.int64)
feeds = {"input_ids": input_ids, "attention_mask": attention_mask}"""

_EMBEDDINGS: Final = """
# One row a prompt, float32, from the embedder that the router was trained with: {embedder!r}.
# The argument names a file that numpy.save wrote; without one, a made-up vector shows the shape.
embeddings = np.load(sys.argv[1]) if len(sys.argv) > 1 else np.ones((1, {dim}))
for win_rate in session.run(["win_rate"], {{"embeddings": np.asarray(embeddings, dtype=np.float32)}})[0]:
    print(f"{{win_rate:.6f}}  {{STRONG_MODEL if win_rate >= THRESHOLD else WEAK_MODEL}}")
"""

_TRANSFORMER: Final = """tokenizer.enable_truncation({max_tokens})  # special tokens included
"""

_CAUSAL: Final = """
# The text around a question, and the text behind which the next token is the score.
BEFORE = {before!r}
AFTER = {after!r}
HEADER = {header!r}
# Spellings of control tokens, which a question must not hold.
CONTROL = {control!r}


def row_of(question):
    if any(spelling in question for spelling in CONTROL):
        raise SystemExit("the prompt spells a control token, which routellm_fast would take apart: score it there")
    question = question{strip}
    ids = tokenizer.encode(BEFORE + question + AFTER, add_special_tokens={special}).ids
    ids = ids + tokenizer.encode(HEADER, add_special_tokens=False).ids
    if len(ids) > {max_tokens}:
        raise SystemExit("the prompt has more than {max_tokens} tokens, which routellm_fast would cut: score it there")
    return ids
"""

_STATIC: Final = '''
MAX_TOKENS, TAIL_TOKENS, MAX_CHARS = {max_tokens}, {tail_tokens}, {max_chars}


def encode(text):
    found = tokenizer.encode(text, add_special_tokens=False)
    return found.ids, [end for _, end in found.offsets]


def read(text):
    """Return the token ids that the router reads, the text that they are of, and the number of tokens of all of it."""
    ids, ends = encode(text[:MAX_CHARS])
    if len(text) <= MAX_CHARS and len(ids) <= MAX_TOKENS:
        return ids, text, len(ids)
{long}
'''
_START_ONLY: Final = """    cut = ends[MAX_TOKENS - 1] if len(ids) > MAX_TOKENS else MAX_CHARS
    return ids[:MAX_TOKENS], text[:cut], min(len(ids), MAX_TOKENS)"""
_BOTH_ENDS: Final = """    # The start and the end of a long prompt are read, and its number of tokens is estimated.
    tail_chars, head_tokens = MAX_CHARS * TAIL_TOKENS // MAX_TOKENS, MAX_TOKENS - TAIL_TOKENS
    ids, ends = encode(text[: MAX_CHARS - tail_chars])
    cut = ends[head_tokens - 1] if len(ids) > head_tokens else min(len(text), MAX_CHARS - tail_chars)
    begin = max(0, len(text) - tail_chars)
    if begin <= cut:
        begin = cut
    else:
        begin = next((place for place in range(begin, len(text)) if text[place] in " \\t\\r\\n"), begin)
    tail_ids, _ = encode(text[begin:])
    seen = text[:cut] + text[begin:]
    count = len(ids[:head_tokens]) + len(tail_ids)
    share = len(text.encode()) / max(1, len(seen.encode()))
    return ids[:head_tokens] + tail_ids[-TAIL_TOKENS:], seen, max(count, int(count * share + 0.5))"""


_FEED_FEATURES: Final = """
values = [[FEATURES[name](Read(*seen)) for name in {names}] for _, *seen in found]
feeds["surface_features"] = np.array(values, dtype=np.float32)"""


def write_example(native: Exportable, folder: Path, precision: str) -> None:
    """Write example.py, which runs as it stands, tokenizer.json where the graph reads tokens, and surface_features.py.

    Args:
        native: The router that was exported.
        folder: The folder of its graph.
        precision: Precision of the graph.
    """
    body, tokenizer = _body(native)
    features = "from surface_features import FEATURES, Read\n" if SURFACE_FEATURES in native.widths else ""
    pair, calibration = native.router.model_pair, native.router.calibration
    if calibration is None:
        threshold = "THRESHOLD = 0.5  # the router has no calibration: choose one on prompts like your traffic"
    else:
        threshold = f"THRESHOLD = {native.router.default_threshold!r}  # half of the calibration's prompts reach it"
    text = _HEAD.format(
        needs="numpy and onnxruntime" if tokenizer is None else "numpy, onnxruntime and tokenizers",
        strong=pair.strong,
        weak=pair.weak,
        threshold=threshold,
        imports=("" if tokenizer is None else "from tokenizers import Tokenizer\n") + features,
        model=MODEL_FILE,
        # ONNX Runtime's kernels for the CPU lack bfloat16.
        provider="CUDAExecutionProvider" if precision == "bfloat16" else "CPUExecutionProvider",
    )
    if features:
        (folder / FEATURES_FILE).write_text(inspect.getsource(surface_features), encoding="utf-8")
    (folder / EXAMPLE_FILE).write_text(text + body, encoding="utf-8")
    if tokenizer is not None:
        (folder / TOKENIZER_FILE).write_bytes(tokenizer)


def _body(native: Exportable) -> tuple[str, bytes | None]:
    """Return the code behind the session, and the tokenizer that it reads."""
    router: Any = native.router
    if EMBEDDINGS in native.widths:
        name = router.embedder.name if router.has_embedder else "not stored with it"
        return _EMBEDDINGS.format(embedder=name, dim=router.dim), None
    if isinstance(router, CausalLLMRouter):
        return _causal(router), router.model.tokenizer.to_str().encode()
    if isinstance(router, BertRouter):
        return _transformer(router.max_tokens, router.pad_id), router.tokenizer_json
    if isinstance(router.embedder, OnnxEmbedder):
        entry, _, files = router.embedder.stored()
        settings = entry["settings"]
        return _transformer(settings["max_tokens"], settings["pad_id"]), files[TOKENIZER_FILE]
    parts = StaticParts.of(router.embedder)
    return _static(parts), parts.tokenizer_json


def _transformer(max_tokens: int, pad_id: int) -> str:
    rows = "rows = [encoding.ids for encoding in tokenizer.encode_batch(prompts)]"
    padded = _ON_THE_RIGHT.format(pad=pad_id)
    return _TOKENIZER + _TRANSFORMER.format(max_tokens=max_tokens) + _MAIN.format(rows=rows, padded=padded)


def _causal(router: CausalLLMRouter) -> str:
    form = router.prompt_format
    strips = {(True, True): ".strip()", (True, False): ".lstrip()", (False, True): ".rstrip()"}
    code = _CAUSAL.format(
        before=form.before,
        after=form.after,
        header=form.header,
        control=[*TextTokens(router.model.tokenizer).control_texts, *router.scoring.score_tokens],
        strip=strips.get((form.strip_left, form.strip_right), ""),
        special=form.add_special_tokens,
        max_tokens=router.scoring.max_tokens,
    )
    return _TOKENIZER + code + _MAIN.format(rows="rows = [row_of(prompt) for prompt in prompts]", padded=_ON_THE_LEFT)


def _static(parts: StaticParts) -> str:
    settings, names = parts.settings, parts.text_features
    tail = settings.get("tail_tokens", 0)
    code = _STATIC.format(
        max_tokens=settings["max_tokens"],
        tail_tokens=tail,
        max_chars=settings["max_code_points"],
        long=_BOTH_ENDS if tail else _START_ONLY,
    )
    padded = _ON_THE_RIGHT.format(pad=0)
    if names:
        padded += _FEED_FEATURES.format(names=names)
    rows = "found = [read(prompt) for prompt in prompts]\nrows = [ids for ids, _, _ in found]"
    return _TOKENIZER + code + _MAIN.format(rows=rows, padded=padded)
