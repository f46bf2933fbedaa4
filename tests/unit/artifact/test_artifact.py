from __future__ import annotations

import hashlib
import json
import os
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.artifact import FORMAT_VERSION, ROUTER_LAYOUT, read_artifact, verify_artifact
from routellm_fast.routers.embedding import contents_in_memory
from tests.support.builders import mf_router, static_embedder
from tests.support.manifests import editable_manifest
from tests.support.processes import run_python

GOLDEN = Path(__file__).resolve().parents[2] / "artifacts" / "v1"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "router"
    mf_router().save(path)
    return path


def edit(path: Path, **changes: object) -> None:
    manifest = editable_manifest(path / "router.json")
    manifest.update(changes)
    (path / "router.json").write_text(json.dumps(manifest))


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_save_then_load_is_the_same_router(saved: Path) -> None:
    first, second = mf_router(), rf.load_router(saved)
    prompts = ["hello", "prove the a?", ""]
    np.testing.assert_array_equal(first.win_rates(prompts), second.win_rates(prompts))
    assert second.model_pair == first.model_pair
    assert second.calibration == first.calibration
    assert second.provenance == first.provenance
    assert second.model_card == "# A tiny router\n"
    assert second.embedder.fingerprint == first.embedder.fingerprint


def test_saving_is_deterministic_and_survives_a_round_trip(saved: Path, tmp_path: Path) -> None:
    rf.load_router(saved).save(tmp_path / "again")
    assert contents(saved) == contents(tmp_path / "again")


def test_saving_replaces_a_router_whole_and_leaves_nothing_beside_it(saved: Path) -> None:
    mf_router(provenance={"created": "later"}).save(saved)
    assert rf.load_router(saved).provenance == {"created": "later"}
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_saving_never_replaces_what_is_no_router(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(rf.ArtifactWriteError, match="left alone"):
        mf_router().save(tmp_path / "thesis")
    (tmp_path / "file").write_text("x")
    with pytest.raises(rf.ArtifactWriteError, match="left alone"):
        mf_router().save(tmp_path / "file")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_disk_that_fills_up_while_saving_loses_nothing(saved: Path) -> None:
    before = contents(saved)
    # A limit on file sizes is what a full disk is to a program: write() fails half-way.
    program = textwrap.dedent(
        """
        import resource, signal, sys
        from tests.support.builders import mf_router
        import routellm_fast as rf
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
        try:
            mf_router(provenance={"created": "later"}).save(sys.argv[1])
        except rf.ArtifactWriteError as error:
            assert "unchanged" in str(error), error
            sys.exit(7)
        """
    )
    run = run_python("-c", program, str(saved))
    assert run.returncode == 7, run.stderr
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_a_missing_directory_and_a_missing_file_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(rf.ArtifactNotFoundError, match="no/such/place"):
        rf.load_router("no/such/place")
    with pytest.raises(FileNotFoundError):
        rf.load_router(tmp_path / "router" / "router.json")
    (saved / "weights.safetensors").unlink()
    with pytest.raises(rf.ArtifactNotFoundError, match=r"lacks weights\.safetensors"):
        rf.load_router(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json"])
def test_a_truncated_longer_or_changed_file_is_refused(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    for damaged in (content[:-7], b"", content + b"x", bytes(flipped)):
        (saved / name).write_bytes(damaged)
        with pytest.raises(rf.ArtifactIntegrityError, match=name):
            rf.load_router(saved)


def test_a_newer_format_is_refused_with_both_numbers(saved: Path) -> None:
    edit(saved, format_version=FORMAT_VERSION + 1, soul="something new")
    with pytest.raises(rf.ArtifactVersionError, match=f"version {FORMAT_VERSION + 1}; .* up to {FORMAT_VERSION}"):
        rf.load_router(saved)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_a_version_that_is_no_version_is_refused(saved: Path, version: object) -> None:
    edit(saved, format_version=version)
    with pytest.raises(rf.ArtifactFormatError, match="format_version"):
        rf.load_router(saved)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"color": "blue"}, "unknown color"),
        ({"kind": 3}, "kind must be a string"),
        ({"kind": "oracle"}, "kind 'oracle'"),
        ({"model_pair": {"strong": "a"}}, "strong and weak"),
        ({"model_pair": {"strong": "a", "weak": ""}}, "two names"),
        ({"settings": {}}, "models"),
        ({"calibration": {"table": [[0, 1]]}}, "calibration"),
        ({"calibration": {"dataset": "d", "prompt_count": 1, "table": [[0, 0.1], [1, 0.9]]}}, "thresholds fall"),
        ({"embedder": {"kind": "static"}}, "embedder entry"),
        ({"tensors": {}}, "manifest says nothing"),
        ({"files": {"../evil": {"bytes": 1, "sha256": ""}}}, "bare names"),
        ({"files": {"weights.safetensors": {"bytes": True, "sha256": ""}}}, "integer"),
    ],
)
def test_a_manifest_that_breaks_the_format_is_refused(saved: Path, changes: dict[str, object], found: str) -> None:
    edit(saved, **changes)
    with pytest.raises(rf.ArtifactFormatError, match=found):
        rf.load_router(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format_version": NaN}', '{"kind": 1, "kind": 2}', "[" * 100_000]
)
def test_a_manifest_that_is_no_json_object_is_refused(saved: Path, text: str) -> None:
    (saved / "router.json").write_text(text)
    with pytest.raises(rf.ArtifactFormatError):
        rf.load_router(saved)


def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, saved: Path) -> None:
    router = mf_router()
    router._weights["W"].setflags(write=True)
    router._weights["W"][1, 2] = np.nan
    with pytest.raises(rf.ArtifactIntegrityError, match=r"tensor W has nan at \(1, 2\)"):
        router.save(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def linked(directory: Path, store: Path, *, absolute: bool) -> None:
    """Move each file of a directory into a folder by its digest, and leave a symbolic link, as caches of hubs do."""
    store.mkdir()
    for file in directory.iterdir():
        blob = store / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        file.symlink_to(blob if absolute else os.path.relpath(blob, directory))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_directory_of_links_is_the_router_that_they_lead_to(tmp_path: Path, absolute: bool, compressed: bool) -> None:
    path = tmp_path / "snapshots" / "1f2e3d"
    shutil.copytree(GOLDEN / ("sw-int8" if compressed else "mf-calibrated"), path)
    plain = rf.load_router(path)
    before = contents(path)
    linked(path, tmp_path / "blobs", absolute=absolute)
    assert all(file.is_symlink() for file in path.iterdir())
    (tmp_path / "current").symlink_to(path)
    for place in (path, tmp_path / "current"):
        assert verify_artifact(place, ROUTER_LAYOUT) > 0
        found = rf.load_router(place)
        assert found.win_rates(["hello", ""]).tolist() == plain.win_rates(["hello", ""]).tolist()
        assert found.model_card == plain.model_card
    # What is saved again is made of files.
    rf.load_router(path).save(tmp_path / "copy")
    copied = contents(tmp_path / "copy")
    assert {**copied, "router.json": b""} == {**before, "router.json": b""}
    assert json.loads(before["router.json"]) == editable_manifest(tmp_path / "copy" / "router.json")
    assert not any(file.is_symlink() for file in (tmp_path / "copy").iterdir())


def test_a_link_to_other_content_or_to_what_is_no_file_is_refused(saved: Path, tmp_path: Path) -> None:
    linked(saved, tmp_path / "blobs", absolute=True)
    weights = saved / "weights.safetensors"
    target = weights.resolve()
    for other, error, words in (
        (saved / "tokenizer.json", rf.ArtifactIntegrityError, "manifest says"),
        (tmp_path / "gone", rf.ArtifactNotFoundError, "is a symbolic link to .*gone, which cannot be opened"),
        (weights, rf.ArtifactNotFoundError, "is a symbolic link to .*weights.safetensors, which cannot be opened"),
        (tmp_path, rf.ArtifactIntegrityError, "no regular file"),
        (Path("/dev/zero"), rf.ArtifactIntegrityError, "no regular file"),
    ):
        weights.unlink()
        weights.symlink_to(other)
        with pytest.raises(error, match=words):
            rf.load_router(saved)
    weights.unlink()
    weights.symlink_to(target)
    rf.load_router(saved)


@pytest.mark.parametrize("leads_to", ["router", "gone", "missing/folder"])
def test_saving_through_a_link_replaces_what_it_leads_to(saved: Path, tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "current"
    link.symlink_to(f"../{leads_to}")
    mf_router(provenance={"created": "later"}).save(link)
    assert link.is_symlink()
    for place in (link, tmp_path / leads_to):
        assert rf.load_router(place).provenance == {"created": "later"}
    assert [path.name for path in link.parent.iterdir()] == ["current"]


def test_links_that_lead_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(rf.ArtifactWriteError, match=r"one could not be written \(Too many levels of symbolic links\)"):
        mf_router().save(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 300, "File name too long"),
        ("/".join(["folder"] * 1000), "File name too long"),
        ("nul\0byte", "is no path"),
        ("\ud800", "is no path"),
        ("", "is no path"),
    ],
)
def test_a_path_that_no_file_system_takes_is_named(tmp_path: Path, name: str, words: str) -> None:
    path = f"{tmp_path}/{name}" if name else ""
    for save in (mf_router().save, static_embedder().save):
        with pytest.raises(rf.ArtifactWriteError, match=words):
            save(path)
    assert list(tmp_path.iterdir()) == []
    for load in (rf.load_router, rf.StaticEmbedder.load):
        with pytest.raises(rf.ArtifactNotFoundError):
            load(path or f"{tmp_path}/{name}none")


def test_the_longest_name_that_a_file_system_takes_can_be_saved_to(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)  # 254 bytes of 255
    for _ in range(2):
        mf_router().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    rf.load_router(path)


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "bert", "causal_llm", "random"])
@pytest.mark.parametrize("golden", ["mf-calibrated", "sw-float32", "bert", "random"])
def test_a_directory_whose_kind_was_changed_is_named(tmp_path: Path, golden: str, kind: str) -> None:
    if kind in ("bert", "causal_llm"):
        pytest.importorskip("onnxruntime" if kind == "bert" else "transformers")
    path = tmp_path / "router"
    shutil.copytree(GOLDEN / golden, path)
    if json.loads((path / "router.json").read_text())["kind"] == kind:
        return
    edit(path, kind=kind)
    with pytest.raises(rf.ArtifactError, match=str(path)):
        rf.load_router(path)


def test_what_is_wrong_with_an_embedder_in_a_directory_names_the_directory(saved: Path) -> None:
    embedder = json.loads((saved / "router.json").read_text())["embedder"]
    edit(saved, embedder={**embedder, "settings": {**embedder["settings"], "max_tokens": 0}})
    for load in (rf.load_router, rf.StaticEmbedder.load):
        with pytest.raises(rf.ArtifactFormatError, match=f"{saved}: the static embedder's parts"):
            load(saved)


def test_a_router_in_memory_is_not_called_a_directory() -> None:
    router = mf_router()
    settings = {"models": ["a", "b"], "scoring_pair": {"strong": "a", "weak": float("nan")}}
    for make in (
        lambda: contents_in_memory("mf", settings, {}, {}),
        lambda: type(router)(["a", "b"], *(np.ones((2, 2), np.float32),) * 3, model_pair=rf.ModelPair("a", "b")),
    ):
        with pytest.raises(rf.InvalidArgumentError, match="this mf router") as caught:
            make()
        assert "directory" not in str(caught.value)
        assert ".json" not in str(caught.value)


def test_the_model_card_may_be_edited_and_may_be_missing(saved: Path) -> None:
    (saved / "README.md").write_text("# Mine\n")
    assert rf.load_router(saved).model_card == "# Mine\n"
    (saved / "README.md").unlink()
    assert rf.load_router(saved).model_card == ""


def test_another_embedder_than_the_one_trained_with_is_refused(saved: Path, tmp_path: Path) -> None:
    same = rf.load_router(saved).embedder
    assert rf.load_router(saved, embedder=same).embedder is same
    other = mf_router().embedder.replace(normalize=True)  # type: ignore[attr-defined]
    with pytest.raises(rf.EmbedderMismatchError, match="fingerprint"):
        rf.load_router(saved, embedder=other)
    function = rf.FunctionEmbedder(
        lambda texts: np.zeros((len(texts), 5), np.float32), dim=5, name="zeros", fingerprint="sha256:0"
    )
    with pytest.raises(rf.EmbedderMismatchError, match="dim"):
        rf.load_router(saved, embedder=function)


def test_a_router_keeps_the_identity_of_an_embedder_that_it_does_not_hold(tmp_path: Path) -> None:
    function = rf.FunctionEmbedder(
        lambda texts: np.ones((len(texts), 9), np.float32), dim=9, name="ones", fingerprint="sha256:1"
    )
    mf_router(embedder=function).save(tmp_path / "one")  # type: ignore[arg-type]
    bare = rf.load_router(tmp_path / "one")
    with pytest.raises(rf.EmbedderUnavailableError, match="embeddings only"):
        bare.win_rate("hello")
    bare.save(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert 0 <= rf.load_router(tmp_path / "two", embedder=function).win_rate("hello") <= 1


def test_an_openai_embedder_is_stored_without_its_key_and_restored_lazily(saved: Path, tmp_path: Path) -> None:
    remote = rf.OpenAIEmbedder(model="tiny", base_url="http://127.0.0.1:9/v1", dim=9, api_key="sk-secret")
    mf_router(rf.CachedEmbedder(remote)).save(tmp_path / "r")  # type: ignore[arg-type]
    for file in (tmp_path / "r").iterdir():
        assert b"sk-secret" not in file.read_bytes()
    loaded = rf.load_router(tmp_path / "r", allow_server="http://127.0.0.1:9/v1")
    assert loaded.embedder.fingerprint == remote.fingerprint
    manifest = editable_manifest(tmp_path / "r" / "router.json")
    manifest["embedder"]["settings"]["api_key"] = "sk-planted"
    edit(tmp_path / "r", embedder=manifest["embedder"])
    with pytest.raises(rf.ArtifactFormatError, match="api_key"):
        rf.load_router(tmp_path / "r")


def test_read_artifact_reports_what_the_directory_holds(saved: Path) -> None:
    artifact = read_artifact(saved, ROUTER_LAYOUT)
    assert set(artifact.tensors) == {"P", "W", "w", "embedder.table", "embedder.column_scale"}
    assert set(artifact.files) == {"tokenizer.json"}


@pytest.mark.parametrize("tail", ["\0junk", "\ud800"])
def test_text_that_no_path_can_be_leads_to_no_other_directory(saved: Path, tail: str) -> None:
    for read in (rf.load_router, lambda path: verify_artifact(path, ROUTER_LAYOUT)):
        with pytest.raises(rf.ArtifactNotFoundError, match="is no path"):
            read(str(saved) + tail)
