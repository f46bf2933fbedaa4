from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import routellm_fast as rf
from tests.support.builders import WORDS, model2vec_folder, static_embedder, tokenizer_json

TEXTS = ["hello", "prove the a b c?", "", "   ", "writes { 1 }", "zzz", "a" * 500]


def expected_mean(table: np.ndarray, ids: list[int], *, normalize: bool) -> np.ndarray:
    mean = table[ids].astype(np.float64).mean(axis=0) if ids else np.zeros(table.shape[1])
    return mean / np.linalg.norm(mean) if normalize and ids else mean


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8])
def test_a_model2vec_folder_gives_the_mean_of_its_rows(tmp_path: Path, normalize: bool, dtype: type) -> None:
    table = (np.random.default_rng(2).normal(size=(len(WORDS), 5)) * 20).astype(dtype)
    embedder = rf.StaticEmbedder.load(model2vec_folder(tmp_path / "m", normalize=normalize, embeddings=table))
    found = embedder.embed(["hello prove ? unknownword", "writes"])
    for row, ids in zip(found, ([4, 2, 7], [5, 6]), strict=True):
        np.testing.assert_allclose(row, expected_mean(table, ids, normalize=normalize), rtol=1e-5, atol=1e-5)


# What a safetensors file may hold beside numpy's own numbers; numbers of less than a byte are packed.
OTHER_DTYPES = {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "C64": 64}


def raw_safetensors(path: Path, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    header = json.dumps({"embeddings": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_a_bfloat16_table_is_read_exactly(tmp_path: Path) -> None:
    folder = model2vec_folder(tmp_path / "m", normalize=False)
    table = np.random.default_rng(4).normal(size=(len(WORDS), 5)).astype(np.float32)
    upper = (table.view(np.uint32) >> 16).astype(np.uint16)  # cut off to what bfloat16 holds
    raw_safetensors(folder / "model.safetensors", "BF16", table.shape, upper.tobytes())
    embedder = rf.StaticEmbedder.load(folder)
    expected = (upper.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(embedder.table, expected)
    np.testing.assert_allclose(embedder.embed(["hello"])[0], expected[4], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float64])
def test_a_table_of_any_numbers_is_read(tmp_path: Path, dtype: type) -> None:
    table = np.arange(len(WORDS) * 5).reshape(len(WORDS), 5).astype(dtype)
    embedder = rf.StaticEmbedder.load(model2vec_folder(tmp_path / "m", normalize=False, embeddings=table))
    np.testing.assert_array_equal(embedder.table, table.astype(np.float32))


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_a_table_of_another_type_is_named(tmp_path: Path, dtype: str) -> None:
    folder = model2vec_folder(tmp_path / "m")
    raw_safetensors(folder / "model.safetensors", dtype, (len(WORDS), 8), bytes(len(WORDS) * OTHER_DTYPES[dtype]))
    with pytest.raises(rf.ArtifactFormatError, match=f"tensor embeddings has the type {dtype}; expected BF16"):
        rf.StaticEmbedder.load(folder)


def test_a_quantised_vocabulary_is_mapped_and_weighted(tmp_path: Path) -> None:
    table = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    mapping = np.arange(len(WORDS), dtype=np.int64) % 4
    weights = np.linspace(0.5, 2, len(WORDS)).astype(np.float64)
    folder = model2vec_folder(tmp_path / "m", normalize=False, embeddings=table, mapping=mapping, weights=weights)
    embedder = rf.StaticEmbedder.load(folder)
    ids = [4, 2, 7]
    expected = (table[mapping[ids]] * weights[ids][:, None]).mean(axis=0)
    np.testing.assert_allclose(embedder.embed(["hello prove ?"])[0], expected, rtol=1e-5)
    np.testing.assert_allclose(embedder.quantize().embed(["hello prove ?"])[0], expected, atol=0.05)


def test_sentence_transformers_layouts_are_read(tmp_path: Path) -> None:
    table = np.ones((len(WORDS), 5), np.float32)
    (tmp_path / "0_StaticEmbedding").mkdir()
    save_file({"embedding.weight": table}, tmp_path / "0_StaticEmbedding" / "model.safetensors")
    (tmp_path / "0_StaticEmbedding" / "tokenizer.json").write_bytes(tokenizer_json())
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    assert rf.StaticEmbedder.load(tmp_path).embed(["hello"]).tolist() == [[1.0] * 5]


def test_surface_features_stand_behind_the_token_dimensions() -> None:
    embedder = static_embedder(surface_features=("constant", "log_tokens", "question_marks"))
    rows = embedder.embed(["prove the a?", "", "??"])
    assert rows[:, -3].tolist() == [1, 1, 1]
    np.testing.assert_allclose(rows[:, -2], np.log1p([4, 0, 2]), rtol=1e-6)
    np.testing.assert_allclose(rows[:, -1], np.log1p([1, 0, 2]), rtol=1e-6)
    assert embedder.dim == 9
    assert embedder.surface_features == ("constant", "log_tokens", "question_marks")
    with pytest.raises(rf.InvalidArgumentError, match="log_tokens"):
        static_embedder(surface_features=("mood",))


def test_tokens_only_are_the_token_dimensions() -> None:
    embedder = static_embedder(surface_features=("constant", "log_tokens"))
    tokens = embedder.tokens_only()
    np.testing.assert_array_equal(tokens.embed(TEXTS), embedder.embed(TEXTS)[:, :-2])
    assert (tokens.dim, tokens.surface_features) == (embedder.dim - 2, ())
    assert tokens.name != embedder.name
    assert tokens.fingerprint == static_embedder(surface_features=()).fingerprint != embedder.fingerprint
    assert tokens.tokens_only() is tokens


def test_every_isa_gives_the_same_int8_embedding(isa: str) -> None:
    for normalize in (False, True):
        reference = static_embedder(normalize=normalize, isa="scalar").embed(TEXTS)
        np.testing.assert_allclose(static_embedder(normalize=normalize, isa=isa).embed(TEXTS), reference, rtol=1e-6)
    with pytest.raises(rf.UnsupportedIsaError, match="sse9"):
        static_embedder(isa="sse9")


def test_alone_and_in_a_batch_a_text_gets_the_same_vector() -> None:
    embedder = static_embedder(normalize=True)
    together = embedder.embed(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(embedder.embed((text,))[0], row)
    assert embedder.embed([]).shape == (0, embedder.dim)


@pytest.mark.parametrize("text", ["\ud800", "hello\udfff prove", "\udc80\udc80", "\ud83d \ude00"])
def test_lone_surrogates_are_dropped_like_the_replacement_character(text: str) -> None:
    embedder = static_embedder()
    clean = "".join("�" if 0xD800 <= ord(c) < 0xE000 else c for c in text)
    np.testing.assert_array_equal(embedder.embed([text])[0, :6], embedder.embed([clean])[0, :6])


def test_ten_megabytes_are_read_no_further_than_a_long_prompt() -> None:
    embedder = static_embedder()
    for unit in ("prove the a ", " ", "a", "é", "\ud800", "😀 ", "漢"):
        huge = unit * (10_000_000 // len(unit))
        np.testing.assert_array_equal(embedder.embed([huge]), embedder.embed([huge[: 64 * 512]]))


def test_a_saved_embedder_is_the_same(tmp_path: Path) -> None:
    embedder = static_embedder(normalize=True)
    embedder.save(tmp_path / "e", provenance={"from": "test"})
    loaded = rf.StaticEmbedder.load(tmp_path / "e")
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded.table.dtype == np.int8
    np.testing.assert_array_equal(loaded.embed(TEXTS), embedder.embed(TEXTS))
    loaded.save(tmp_path / "f", provenance={"from": "test"})
    for file in (tmp_path / "e").iterdir():
        assert file.read_bytes() == (tmp_path / "f" / file.name).read_bytes()


def test_the_fingerprint_tells_embedders_apart() -> None:
    variants = [
        static_embedder(),
        static_embedder(normalize=True),
        static_embedder(int8=False),
        static_embedder(surface_features=()),
        static_embedder(surface_features=("log_tokens", "constant", "question_marks")),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert static_embedder().fingerprint == static_embedder().fingerprint


def test_the_table_cannot_be_changed_through_its_view() -> None:
    with pytest.raises(ValueError, match="read-only"):
        static_embedder().table[0, 0] = 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", tokenizer_json().replace(b'"[UNK]": 1', b'"[unk]": 1')),
        ("tokenizer.json", tokenizer_json().replace(b'"[UNK]": 1', b'"[UNK]": -1')),
        ("tokenizer.json", tokenizer_json().replace(b'"model"', b'"added_tokens": ["x"], "model"')),
        ("tokenizer.json", tokenizer_json().replace(b'"model"', b'"added_tokens": [{"content": "x"}], "model"')),
        (
            "tokenizer.json",
            tokenizer_json()
            .replace(b'"BertNormalizer"', b"[]")
            .replace(b'"normalizer": {', b'"normalizer": [], "n": {'),
        ),
        ("config.json", b'{"max_length": "512"}'),
        ("model.safetensors", b"not tensors"),
        ("config.json", b"{"),
    ],
)
def test_a_damaged_model2vec_folder_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    folder = model2vec_folder(tmp_path / "m")
    (folder / file).write_bytes(content)
    with pytest.raises(rf.ArtifactError):
        rf.StaticEmbedder.load(folder)


def test_what_is_no_embedder_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(rf.ArtifactNotFoundError, match="neither"):
        rf.StaticEmbedder.load(tmp_path)


def test_a_table_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = model2vec_folder(tmp_path / "m", embeddings=np.ones((3, 5), np.float32))
    with pytest.raises(rf.InvalidArgumentError, match="different models"):
        rf.StaticEmbedder.load(folder)


def unigram_json() -> bytes:
    spec = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["▁hello", -1.0], ["▁", -3.0], ["a", -2.0]],
        },
    }
    return json.dumps(spec).encode()


def test_other_tokenizers_run_by_their_own_library(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    table = np.arange(20, dtype=np.float32).reshape(4, 5)
    folder = model2vec_folder(tmp_path / "m", normalize=False, embeddings=table)
    (folder / "tokenizer.json").write_bytes(unigram_json())
    embedder = rf.StaticEmbedder.load(folder).replace(surface_features=("log_tokens",))
    assert embedder.native is None
    ids = tokenizers.Tokenizer.from_str(unigram_json().decode()).encode("hello aa", add_special_tokens=False).ids
    rows = embedder.embed(["hello aa", "", "\ud800"])
    np.testing.assert_allclose(rows[0, :5], table[[i for i in ids if i != 0]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(rows[:2, 5], np.log1p([len(ids), 0]), rtol=1e-6)
    with pytest.raises(TypeError, match="text 1"):
        embedder.embed(["fine", None])  # type: ignore[list-item]


def ends(tail_tokens: int, **settings: int) -> rf.StaticEmbedder:
    return static_embedder(surface_features=("log_tokens",), max_tokens=6, tail_tokens=tail_tokens, **settings)


def test_of_a_long_text_both_ends_are_read_and_two_questions_are_told_apart() -> None:
    context, questions = "the " * 600, ("prove a b?", "write hello c")
    start, both = ends(0), ends(3)
    rows = start.embed([context + question for question in questions])
    np.testing.assert_array_equal(rows[0], rows[1])
    rows = both.embed([context + question for question in questions])
    assert np.abs(rows[0] - rows[1]).max() > 0.01
    np.testing.assert_array_equal(rows[0, :-1], start.embed(["the the the a b?"])[0, :-1])
    # Characters, bytes and line ends between the ends change nothing but the length.
    for middle in ("\n" * 5000, "\U0001f600" * 5000, "é" * 5000, "x" * 5000 + " "):
        found = both.embed(["the the the " + middle + " a b?"])
        np.testing.assert_array_equal(found[0, :-1], rows[0, :-1])


def test_short_texts_are_read_as_without_the_ends() -> None:
    texts = [*TEXTS[:-1], "a b c a b c", " a b\tc a b c  \n"]
    np.testing.assert_array_equal(ends(0).embed(texts), ends(2).embed(texts))
    assert ends(2).reads_whole(texts) == [True] * len(texts)


def test_the_length_of_a_long_text_is_that_of_all_of_it() -> None:
    for words in (7, 50, 5000):
        found = ends(2, max_code_points=100).embed(["hello " * words])[0, -1]
        assert np.expm1(found) == pytest.approx(words, rel=0.12)
        assert np.expm1(ends(0, max_code_points=100).embed(["hello " * words])[0, -1]) == pytest.approx(6)


def test_the_ends_are_a_part_of_the_identity_and_are_stored(tmp_path: Path) -> None:
    both = ends(3)
    assert len({ends(tail).fingerprint for tail in (0, 2, 3)}) == 3
    assert "tail_tokens" not in ends(0).stored()[0]["settings"]  # older directories stay as they were
    both.save(tmp_path / "embedder")
    loaded = rf.StaticEmbedder.load(tmp_path / "embedder")
    assert loaded.fingerprint == both.fingerprint
    text = "the " * 50 + "prove"
    np.testing.assert_array_equal(loaded.embed([text]), both.embed([text]))
    np.testing.assert_array_equal(both.replace(tail_tokens=0).embed([text]), ends(0).embed([text]))
    with pytest.raises(rf.InvalidArgumentError, match="tail_tokens must be below max_tokens"):
        ends(6)


def test_a_library_reads_the_same_tokens_of_both_ends(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    native = ends(2, max_code_points=60)
    # An added token that may stand in the middle of a word is left to the library.
    spec = json.loads(tokenizer_json())
    spec["added_tokens"] = [{"id": 0, "content": "[PAD]", "single_word": True, "lstrip": False, "rstrip": False,
                             "normalized": False, "special": True}]  # fmt: skip
    _, tensors, _ = native.stored()
    library = rf.StaticEmbedder(
        tensors["embedder.table"], json.dumps(spec).encode(), name="library",
        column_scale=tensors["embedder.column_scale"], surface_features=("log_tokens",),
        max_tokens=6, max_code_points=60, tail_tokens=2, normalize=False,
    )  # fmt: skip
    assert library.native is None
    texts = [
        "",
        "a",
        "a b c a b c",
        "a b c a b c a b",
        "prove the " * 3 + "hello",
        "é" * 59 + " a",
        "hello ?" * 40,
        "write " * 30,
    ]
    np.testing.assert_allclose(library.embed(texts)[:, :-1], native.embed(texts)[:, :-1], atol=1e-6)
    assert library.reads_whole(texts) == native.reads_whole(texts)
    np.testing.assert_allclose(np.expm1(library.embed(texts)[:, -1]), np.expm1(native.embed(texts)[:, -1]), rtol=0.2)
    for found, expected in zip(library.token_ids(texts), native.token_ids(texts), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": "512"},
        {"max_code_points": 1.5},
        {"normalize": "yes"},
        {"surface_features": [3]},
        {"weights": "heavy"},
        {"rows": {"a": 1}},
    ],
)
def test_a_setting_of_another_type_is_named_and_no_signature_of_the_core(settings: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(settings))) as caught:
        rf.StaticEmbedder(np.ones((len(WORDS), 5), np.float32), tokenizer_json(), name="x", **settings)  # type: ignore[arg-type]
    assert "incompatible" not in str(caught.value)
    assert "_core" not in str(caught.value)
