from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import cli
from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact
from routellm_fast.errors import (
    ArtifactError,
    ArtifactWriteError,
    ExportMismatchError,
    ForeignExportError,
    InvalidArgumentError,
    OnnxModelError,
    OutputExistsError,
    UnsupportedExportError,
)
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter, SimilarityWeightedRouter
from tests.support.builders import PAIR, mf_router, mf_weights, static_embedder
from tests.support.exported_example import argument, by_example
from tests.support.opened_files import counted_opens
from tests.support.sw_builders import battle_texts, battles, sw_router

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from routellm_fast.export import ExportedRouter, export_onnx, exportable, router_digest  # noqa: E402
from routellm_fast.export._metadata import digest_of  # noqa: E402
from routellm_fast.export.surface_features import FEATURES as ALL  # noqa: E402

PROMPTS = ["", "prove the", "hello ? a b c", "unknown words only", "write {1} " * 40, *battle_texts(20)]
FEATURES = ("constant", "log_tokens", "question_marks")


def saved(router: rf.Router, folder: Path) -> Path:
    router.save(folder)
    return folder


def plain_run(out: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The graph in plain ONNX Runtime, as a user without this package runs it."""
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(["win_rate"], feeds)[0]


@pytest.mark.parametrize("int8", [True, False], ids=["int8 table", "float table"])
@pytest.mark.parametrize("normalize", [False, True], ids=["mean", "unit length"])
@pytest.mark.parametrize("features", [(), ("constant", "log_tokens"), FEATURES], ids=["none", "from mask", "from text"])
@pytest.mark.parametrize("inputs", ["tokens", "embeddings"])
def test_mf_gives_the_routers_win_rates(
    tmp_path: Path, int8: bool, normalize: bool, features: tuple[str, ...], inputs: str
) -> None:
    router = mf_router(static_embedder(normalize=normalize, int8=int8, surface_features=features))
    directory = saved(router, tmp_path / "router")
    report = export_onnx(directory, tmp_path / "out", inputs=inputs, prompts=PROMPTS)
    native = exportable(router, inputs)
    found = plain_run(tmp_path / "out", native.feeds(PROMPTS))
    np.testing.assert_allclose(found, router.win_rates(PROMPTS), rtol=0, atol=1e-6)
    assert report.max_difference <= 1e-6
    assert (report.kind, report.inputs, report.precision, report.undecided) == ("mf", inputs, "float32", 0)
    written = json.loads((tmp_path / "out" / "export-report.json").read_text())
    assert written.pop("files") == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert report.to_json() == {**written, "notes": ()}


@pytest.mark.parametrize("precision", ["float32", "int8", "moments"])
@pytest.mark.parametrize("inputs", ["tokens", "embeddings"])
@pytest.mark.parametrize("added", [(), (9, 5)], ids=["one block", "three blocks"])
def test_sw_ranking_gives_exact_win_rates_whatever_the_banks_precision(
    tmp_path: Path, precision: str, inputs: str, added: tuple[int, ...]
) -> None:
    router = sw_router(precision, added=added, embedder=static_embedder(surface_features=()))
    directory = saved(router, tmp_path / "router")
    report = export_onnx(directory, tmp_path / "out", inputs=inputs, prompts=PROMPTS)
    found = plain_run(tmp_path / "out", exportable(router, inputs).feeds(PROMPTS))
    exact = router.with_precision("float32").win_rates(PROMPTS)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)
    assert any("float32 bank" in note for note in report.notes) == (precision != "float32")


@pytest.mark.parametrize("same_tier", ["routellm", "ignore"])
def test_sw_ranking_without_an_anchor_or_with_tiers_that_do_not_meet(tmp_path: Path, same_tier: str) -> None:
    rng = np.random.default_rng(5)
    a, b, winner = battles(80)
    router = SimilarityWeightedRouter.build(
        rng.normal(size=(80, 7)), a, b, winner, strong_model="strong-model", weak_model="weak-model", embedder=None,
        num_tiers=6, same_tier=same_tier,
    )  # fmt: skip
    out = tmp_path / "out"
    export_onnx(saved(router, tmp_path / "router"), out)
    queries = rng.normal(size=(50, 7)).astype(np.float32)
    found, expected = plain_run(out, {"embeddings": queries}), router.win_rates_from_embeddings(queries)
    decided = ~np.isnan(found)
    assert decided.mean() > 0.8
    np.testing.assert_allclose(found[decided], expected[decided], rtol=0, atol=1e-5)


def test_length_of_a_query_does_not_matter_and_impossible_ones_have_no_win_rate(tmp_path: Path) -> None:
    router = sw_router()
    export_onnx(saved(router, tmp_path / "router"), tmp_path / "out", inputs="embeddings")
    query = router.embedder.embed(["prove the hello"])
    scaled = np.concatenate([query, query * np.float32(1e-20), query * np.float32(1e20)])
    found = plain_run(tmp_path / "out", {"embeddings": scaled})
    np.testing.assert_allclose(found, router.win_rates_from_embeddings(query)[0], rtol=0, atol=1e-6)
    assert np.isnan(plain_run(tmp_path / "out", {"embeddings": np.full_like(query, np.nan)})).all()


def test_batches_of_any_size_and_length(tmp_path: Path) -> None:
    router = mf_router()
    export_onnx(saved(router, tmp_path / "router"), tmp_path / "out")
    feeds = exportable(router).feeds
    together = plain_run(tmp_path / "out", feeds(PROMPTS))
    alone = np.concatenate([plain_run(tmp_path / "out", feeds([prompt])) for prompt in PROMPTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert plain_run(tmp_path / "out", {name: array[:0] for name, array in feeds(PROMPTS).items()}).shape == (0,)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8", "int8-static"])
@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_other_precisions_keep_their_bound_on_the_routers_that_ship(tmp_path: Path, kind: str, precision: str) -> None:
    prompts = [f"{a} {b}?" for a in ("Prove", "Write about", "List") for b in ("primes", "rain", "SQL", "history")]
    report = export_onnx(kind, tmp_path / "out", inputs="embeddings", precision=precision, prompts=prompts * 3)
    assert 0.0 < report.max_difference <= report.bound < 0.1
    if precision in ("float16", "bfloat16"):
        types = {tensor.data_type for tensor in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer}
        assert getattr(onnx.TensorProto, precision.upper()) in types
    metadata = {e.key: e.value for e in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert metadata["routellm_fast.precision"] == precision


def test_beyond_the_bound_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportMismatchError, match="the bound is 1e-09"):
        export_onnx("mf", tmp_path / "out", inputs="embeddings", precision="int8", bound=1e-9)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_onnx("mf", out)
    assert (out / "tokenizer.json").exists()
    (out / "notes.txt").write_text("mine")
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("main")
    export_onnx("mf", out, inputs="embeddings")
    assert json.loads((out / "export-report.json").read_text())["inputs"] == "embeddings"
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / ".git" / "HEAD").read_text() == "main"
    assert sorted(path.name for path in out.iterdir()) == [
        ".git", "example.py", "export-report.json", "model.onnx", "notes.txt",
    ]  # fmt: skip
    (out / "tokenizer.json").write_text("somebody else's")
    before = (out / "export-report.json").read_bytes()
    with pytest.raises(OutputExistsError, match=r"tokenizer\.json would be replaced"):
        export_onnx("mf", out)
    assert (out / "tokenizer.json").read_text() == "somebody else's"
    assert (out / "export-report.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(ArtifactWriteError, match="left alone"):
        export_onnx("mf", tmp_path / "mine")


@pytest.mark.parametrize(
    "marker",
    ["", "[]", "{}", '{"files": ["model.onnx"]}', '{"files": ["export-report.json", "../thesis.txt"]}',
     '{"files": ["export-report.json", "/etc/passwd"]}', '{"files": ["export-report.json", "a/../../thesis.txt"]}',
     '{"files": ["export-report.json", 3]}'],
)  # fmt: skip
def test_a_marker_that_is_no_exports_is_not_believed(tmp_path: Path, marker: str) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export-report.json").write_text(marker)
    with pytest.raises(ArtifactWriteError, match="left alone"):
        export_onnx("mf", tmp_path / "out")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "out" / "export-report.json").read_text() == marker


def test_equal_routers_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_onnx("mf", tmp_path / name)
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_weights_beyond_a_protobuf_lie_beside_the_graph(tmp_path: Path) -> None:
    report = export_onnx("mf", tmp_path / "out", max_inline_bytes=1000)
    assert (tmp_path / "out" / "model.onnx.data").stat().st_size > 100_000
    assert report.max_difference <= 1e-6


def test_the_digest_is_of_what_is_scored(tmp_path: Path) -> None:
    router = mf_router()
    first = router_digest(saved(router, tmp_path / "a"))
    assert router_digest(saved(router.with_calibration(None), tmp_path / "b")) == first
    assert router_digest(saved(router.for_pair("strong-model", "other-model"), tmp_path / "c")) != first


def test_the_digest_stays_what_earlier_exports_recorded() -> None:
    golden = Path(__file__).parents[1] / "artifacts" / "v1"
    for directory in (golden / "mf-int8-folded", golden / "sw-moments", golden / "bert"):
        manifest = json.loads((directory / "router.json").read_bytes())
        scoring = {key: manifest[key] for key in ("kind", "settings", "embedder", "tensors", "files")}
        expected = hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()
        assert router_digest(directory) == f"sha256:{expected}"


def test_the_digest_is_of_the_manifest_that_was_read(tmp_path: Path) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    expected = router_digest(directory)
    artifact = read_artifact(directory, ROUTER_LAYOUT)
    (directory / "router.json").unlink()  # a second read would miss migrations, and what is replaced meanwhile
    assert digest_of(artifact) == expected


def test_a_router_is_read_once(tmp_path: Path) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    with counted_opens(directory) as opened:
        export_onnx(directory, tmp_path / "out")
    assert set(opened.values()) == {1}
    assert {"router.json", "weights.safetensors"} <= set(opened)


def test_options_that_would_do_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("")
    arguments = ["export", "onnx", "mf", str(tmp_path / "out")]
    assert cli.main([*arguments, "--limit", "3"]) == 2
    assert "--limit does nothing without --prompts" in capsys.readouterr().err
    assert cli.main([*arguments, "--prompts", str(tmp_path / "empty.txt")]) == 2
    assert "empty.txt holds no prompts" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_foreign_and_damaged_graphs_are_refused(tmp_path: Path) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    export_onnx(directory, tmp_path / "out")
    native, path = exportable(rf.load_router(directory)), tmp_path / "out" / "model.onnx"
    exported = ExportedRouter(path, native, router_digest(directory))
    np.testing.assert_allclose(exported.win_rates(PROMPTS), native.native(PROMPTS), rtol=0, atol=1e-6)
    with pytest.raises(ForeignExportError, match="was exported from the router sha256:"):
        ExportedRouter(path, native, "sha256:" + "0" * 64)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "nameless.onnx")
    with pytest.raises(ForeignExportError, match="does not say which router"):
        ExportedRouter(tmp_path / "nameless.onnx", native, router_digest(directory))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OnnxModelError):
        ExportedRouter(path, native, router_digest(directory))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"precision": "int4"}, InvalidArgumentError, "precision must be one of"),
        ({"inputs": "text"}, InvalidArgumentError, "inputs must be one of"),
        ({"bound": 2.0}, InvalidArgumentError, r"lies in \[0, 1\]"),
        ({"precision": "int8-static"}, InvalidArgumentError, "--prompts"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        export_onnx("mf", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_routers_without_a_graph(tmp_path: Path) -> None:
    random = saved(RandomRouter(model_pair=rf.ModelPair("s", "w"), seed=1), tmp_path / "random")
    with pytest.raises(UnsupportedExportError, match="no graph"):
        export_onnx(random, tmp_path / "out")
    stopping = saved(sw_router(solver="routellm"), tmp_path / "stopping")
    with pytest.raises(UnsupportedExportError, match='solver="exact"'):
        export_onnx(stopping, tmp_path / "out")
    bare = MatrixFactorizationRouter(("strong-model", "weak-model", "x"), **mf_weights(), model_pair=PAIR)
    with pytest.raises(UnsupportedExportError, match="inputs=embeddings"):
        export_onnx(saved(bare, tmp_path / "bare"), tmp_path / "out", inputs="tokens")
    assert any("no embedder" in note for note in export_onnx(tmp_path / "bare", tmp_path / "out").notes)
    with pytest.raises(ArtifactError):
        export_onnx(tmp_path / "nowhere", tmp_path / "out")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS[1:4]) + "\n")
    arguments = ["export", "onnx", "mf", str(tmp_path / "out"), "--prompts", str(prompts)]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 3
    assert cli.main([*arguments, "--force"]) == 0
    assert "0 decisions changed" in capsys.readouterr().out
    assert cli.main([*arguments, "--precision", "int3", "--force"]) == 2
    assert capsys.readouterr().err.startswith("routellm-fast: precision must be one of")


LONG = [
    "word " * 20_000,
    "Write {1}, or 2? " * 300,
    "x" * 5000,
    "a b\tC?\n" * 900,
    "é 人工 ä " * 900,
    "  " * 3000 + "the end",
]


@pytest.mark.parametrize("name", ["mf", "sw_ranking"])
def test_the_example_in_the_folder_gives_the_shipped_routers_win_rates(tmp_path: Path, name: str) -> None:
    pytest.importorskip("tokenizers")
    export_onnx(name, tmp_path / "out")
    router = rf.load_router(name)
    prompts = [argument(prompt) for prompt in [*PROMPTS, *LONG]]
    # The number of tokens of a long prompt is an estimate.
    np.testing.assert_allclose(by_example(tmp_path / "out", prompts), router.win_rates(prompts), rtol=0, atol=2e-5)
    short = [prompt for prompt in prompts if len(prompt) < 500]
    np.testing.assert_allclose(by_example(tmp_path / "out", short), router.win_rates(short), rtol=0, atol=3e-6)
    assert len(by_example(tmp_path / "out", [])) == 1  # a prompt of its own
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == router.embedder.stored()[2]["tokenizer.json"]


ALL_FEATURES = tuple(ALL)


@pytest.mark.parametrize("features", [(), ("constant", "log_tokens"), ("log_lines",), ALL_FEATURES])
@pytest.mark.parametrize("tail", [0, 3])
def test_the_example_tells_the_graph_what_the_router_reads(
    tmp_path: Path, features: tuple[str, ...], tail: int
) -> None:
    pytest.importorskip("tokenizers")
    embedder = static_embedder(surface_features=features, max_tokens=8, tail_tokens=tail, max_code_points=120)
    router = mf_router(embedder)
    export_onnx(saved(router, tmp_path / "router"), tmp_path / "out")
    prompts = [argument(prompt) for prompt in [*PROMPTS, "prove the hello a b c 1", "prove the hello a b c 1 2"]]
    np.testing.assert_allclose(by_example(tmp_path / "out", prompts), router.win_rates(prompts), rtol=0, atol=3e-6)
    # With eight tokens a prompt, one character more or less at the cut is a tenth of what is read.
    np.testing.assert_allclose(by_example(tmp_path / "out", LONG), router.win_rates(LONG), rtol=0, atol=5e-3)


def test_the_example_of_a_graph_that_reads_embeddings_needs_no_tokenizer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    router = mf_router()
    export_onnx(saved(router, tmp_path / "router"), out, inputs="embeddings")
    assert not (out / "tokenizer.json").exists()
    embeddings = router.embedder.embed(PROMPTS)
    np.save(tmp_path / "rows.npy", embeddings)
    found = by_example(out, [str(tmp_path / "rows.npy")], tokenizers=False)
    np.testing.assert_allclose(found, router.win_rates(PROMPTS), rtol=0, atol=3e-6)
    assert len(by_example(out, [], tokenizers=False)) == 1


def test_names_in_a_router_cannot_become_code_of_the_example(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    name = '''x"""; raise SystemExit(3) # \' \n raise SystemExit(4)'''
    for inputs in ("tokens", "embeddings"):
        router = mf_router(static_embedder().replace(name=name))
        directory = saved(router, tmp_path / f"router-{inputs}")
        out = tmp_path / f"out-{inputs}"
        export_onnx(directory, out, inputs=inputs)
        by_example(out, [])
    named = rf.load_router(directory, strong_model=name.replace("\n", " "))
    export_onnx(saved(named, tmp_path / "named"), tmp_path / "out-named")
    by_example(tmp_path / "out-named", [])


def test_an_export_that_exists_is_replaced_with_force_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    arguments = ["export", "onnx", str(directory), str(tmp_path / "out")]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    before = (tmp_path / "out" / "export-report.json").stat().st_mtime_ns
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'out'} exists already" in error
    assert "--force" in error
    assert (tmp_path / "out" / "export-report.json").stat().st_mtime_ns == before
    assert cli.main([*arguments, "--force"]) == 0
