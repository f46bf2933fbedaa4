from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel
from safetensors.numpy import save_file

import routellm_fast as rf
from routellm_fast.routers.loading import SHIPPED_ROUTER

EXAMPLES = (Path(__file__).parents[2] / "examples" / "prompts.txt").read_text().splitlines()
ODD = [
    "",
    " ",
    "[UNK]",
    "[PAD] x",
    "a" * 5000,
    "word " * 2000,
    "漢字 かな " * 400,
    "😀" * 900,
    "é" * 4000,
    "x\x00y\u200bz",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedder that ships, as the folder that model2vec would have written."""
    shipped = rf.StaticEmbedder.load(SHIPPED_ROUTER)
    _, tensors, files = shipped.stored()
    path = tmp_path_factory.mktemp("model2vec")
    table = tensors["embedder.table"].astype(np.float32) * tensors["embedder.column_scale"]
    save_file({"embeddings": table}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"normalize": True, "max_length": 512}))
    (path / "tokenizer.json").write_bytes(files["tokenizer.json"])
    return path


def check_equal(folder: Path, texts: list[str]) -> None:
    expected = StaticModel.from_pretrained(str(folder)).encode(texts, use_multiprocessing=False)
    assert expected.dtype == np.float32
    for embedder in (rf.StaticEmbedder.load(folder), rf.StaticEmbedder.load(folder).quantize()):
        np.testing.assert_allclose(embedder.embed(texts), expected, atol=1e-5)


def test_embeddings_of_examples_and_odd_texts_equal_model2vecs(folder: Path) -> None:
    check_equal(folder, EXAMPLES + ODD)


def test_embeddings_of_all_natural_prompts_equal_model2vecs(folder: Path, shared_data: Path) -> None:
    csv.field_size_limit(sys.maxsize)
    with gzip.open(shared_data / "prompts" / "natural_prompts.csv.gz", "rt", encoding="utf-8") as file:
        prompts = [row["prompt"] for row in csv.DictReader(file)]
    assert len(prompts) == 7504
    check_equal(folder, prompts)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_folders_own_settings_are_followed(folder: Path, tmp_path: Path, normalize: bool) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"normalize": normalize, "max_length": 7}))
    check_equal(tmp_path, EXAMPLES + ODD)
