from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.harness.prompts import example_prompts
from benchmarks.harness.suites import present_or_skip
from benchmarks.transformers.bert import BertBench
from benchmarks.transformers.names import FLOAT32, INT8, INT8_STATIC, PLAIN_RUNTIME, ROUTELLM_BERT, TORCH
from benchmarks.transformers.peers import texts_of_tokens


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BertBench:
    for module in ("onnx", "onnxruntime", "onnxscript", "tokenizers"):
        pytest.importorskip(module)
    return present_or_skip(lambda: BertBench(tmp_path_factory.mktemp("bert"), example_prompts()))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", [FLOAT32, INT8, INT8_STATIC, TORCH, ROUTELLM_BERT, PLAIN_RUNTIME])
@pytest.mark.benchmark(group="a classifier of 22 million parameters, text of 64 tokens to win rate")
def bench_bert(benchmark: Any, bench: BertBench, name: str, batch: int) -> None:
    if name in bench.missing:
        pytest.skip(bench.missing[name])
    texts = texts_of_tokens(64, batch, bench.prompts, bench.made)
    found = benchmark(bench.contenders[name], texts)
    expected = bench.contenders[FLOAT32](texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3 if "int8" in name else 1e-4)
    benchmark.extra_info |= {"contender": name, "batch": batch}
