"""The digest of a directory: whoever gives it gets these bytes and no others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact, verify_artifact
from routellm_fast.decision import checked_pair
from tests.support.builders import mf_router, model2vec_folder, static_embedder
from tests.support.c_library import BAD_DIRECTORY, INVALID_ARGUMENT, CRouter, LibraryError
from tests.support.manifests import editable_manifest
from tests.support.processes import assert_refused, run_cli
from tests.support.sw_builders import sw_router

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    mf_router().save(tmp_path / "router")
    return tmp_path / "router"


@pytest.fixture
def banked(tmp_path: Path) -> Path:
    sw_router("int8", added=(9,)).save(tmp_path / "banked")
    return tmp_path / "banked"


def swapped(directory: Path) -> None:
    """Swap strong and weak model, as whoever means harm would: with everything that the manifest says of itself."""
    text = (directory / "router.json").read_text()
    pair = json.loads(text)["model_pair"]
    other = json.dumps({"strong": pair["weak"], "weak": pair["strong"]})
    text = text.replace(f'"model_pair": {json.dumps(pair)}', f'"model_pair": {other}')
    text = re.sub('"manifest_sha256": "[0-9a-f]{64}"', f'"manifest_sha256": "{"0" * 64}"', text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (directory / "router.json").write_text(text.replace("0" * 64, digest, 1))


def test_saving_returns_the_digest_which_reading_takes(tmp_path: Path) -> None:
    digest = mf_router().save(tmp_path / "router")
    content = (tmp_path / "router" / "router.json").read_bytes()
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    for given in (digest, digest.removeprefix("sha256:")):
        loaded = rf.load_router(tmp_path / "router", digest=given)
        assert loaded.win_rate("hello") == mf_router().win_rate("hello")
        assert CRouter(tmp_path / "router", digest=given.encode()).text("digest") in digest
    assert rf.load_router(tmp_path / "router").save(tmp_path / "again") == digest
    assert read_artifact(tmp_path / "router", ROUTER_LAYOUT).digest == digest
    assert static_embedder().save(tmp_path / "embedder").startswith("sha256:")


def test_models_that_were_swapped_load_without_the_digest_and_never_with_it(saved: Path) -> None:
    digest = read_artifact(saved, ROUTER_LAYOUT).digest
    swapped(saved)
    assert rf.load_router(saved).model_pair.strong == "weak-model"
    assert verify_artifact(saved, ROUTER_LAYOUT) > 0
    with pytest.raises(rf.ArtifactIntegrityError, match=r"has sha256 .*, the digest that was asked for is .*another"):
        rf.load_router(saved, digest=digest)
    with pytest.raises(LibraryError, match="the digest that was asked for") as caught:
        CRouter(saved, digest=digest.encode())
    assert caught.value.status == BAD_DIRECTORY


@pytest.mark.parametrize("digest", ["", "sha256:", "md5:" + "0" * 32, "0" * 63, "sha256:" + "A" * 64, "é" * 64])
def test_a_digest_that_is_none_is_refused(saved: Path, digest: str) -> None:
    with pytest.raises(rf.InvalidArgumentError, match="64 hexadecimal digits"):
        rf.load_router(saved, digest=digest)
    with pytest.raises(LibraryError, match="64 hexadecimal digits") as caught:
        CRouter(saved, digest=digest.encode())
    assert caught.value.status == INVALID_ARGUMENT
    with pytest.raises(TypeError):
        rf.load_router(saved, digest=7)  # type: ignore[call-overload]


def test_mapped_tensors_are_checked_whole_with_a_digest_alone(banked: Path) -> None:
    digest = read_artifact(banked, ROUTER_LAYOUT).digest
    assert rf.load_router(banked, digest=digest).win_rate("hello") == rf.load_router(banked).win_rate("hello")
    for file in ("bank.safetensors", "codes.1.safetensors"):
        content = (banked / file).read_bytes()
        (banked / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        rf.load_router(banked)
        with pytest.raises(rf.ArtifactIntegrityError, match=f"{file} has sha256"):
            rf.load_router(banked, digest=digest)
        with pytest.raises(LibraryError, match=f"{file} has sha256"):
            CRouter(banked, digest=digest.encode())
        (banked / file).write_bytes(content)
    rf.load_router(banked, digest=digest)


def test_a_bit_of_the_manifest_that_changed_is_found_without_a_digest(saved: Path) -> None:
    content = (saved / "router.json").read_bytes()
    rf.load_router(saved)
    for at in range(len(content)):
        (saved / "router.json").write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        with pytest.raises(rf.ArtifactError):
            read_artifact(saved, ROUTER_LAYOUT)


def test_whoever_edits_a_manifest_takes_its_digest_of_itself_out(saved: Path) -> None:
    manifest = json.loads((saved / "router.json").read_text())
    manifest["provenance"] = {"mine": True}
    (saved / "router.json").write_text(json.dumps(manifest))
    with pytest.raises(rf.ArtifactIntegrityError, match="take manifest_sha256 out of it"):
        rf.load_router(saved)
    (saved / "router.json").write_text(json.dumps(editable_manifest(saved / "router.json")))
    assert rf.load_router(saved).provenance == {"mine": True}
    rf.load_router(saved).save(saved)
    assert b'"manifest_sha256": "' in (saved / "router.json").read_bytes()


def test_what_json_cannot_hold_is_refused_at_saving_by_name(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(70):
        deep = [deep]
    for value, words in ((float("inf"), "JSON"), (deep, "nested more than 64"), (10**400, "beyond 1.8e308")):
        with pytest.raises(rf.ArtifactFormatError, match=words):
            mf_router(provenance={"x": value}).save(tmp_path / "router")
        assert not (tmp_path / "router").exists()


def test_commands_print_and_check_digests(saved: Path, tmp_path: Path) -> None:
    digest = read_artifact(saved, ROUTER_LAYOUT).digest
    path, other = str(saved), "sha256:" + "0" * 64
    assert run_cli("info", path, "--digest").stdout == f"{digest}\n"
    assert json.loads(run_cli("info", path, "--json").stdout)["digest"] == digest
    good = [
        ("route", "--router", path, "--threshold", "0.5", "hello"),
        ("rank", "--router", path, "--models", "strong-model=1", "--models", "weak-model=0.1", "hello"),
    ]
    for command in good:
        assert run_cli(*command, "--digest", digest).returncode == 0
        assert_refused(run_cli(*command, "--digest", other), "the digest that was asked for")
    assert_refused(run_cli("info", path, "--digest", "--json"), "--json")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("hello\nprove the a?\nwrite b c\n")
    for place in ("new", "json"):
        as_json = ["--json"] if place == "json" else []
        run = run_cli("calibrate", path, str(prompts), "--out", str(tmp_path / place), "--digest", digest, *as_json)
        assert run.returncode == 0, run.stderr
        written = read_artifact(tmp_path / place, ROUTER_LAYOUT).digest
        assert json.loads(run.stdout)["digest"] == written if as_json else f"digest: {written}\n" in run.stdout
    assert_refused(run_cli("calibrate", path, str(prompts), "--check", "--digest", other), "asked for")
    run = run_cli("import", str(model2vec_folder(tmp_path / "m")), str(tmp_path / "e"))
    assert re.search(r"\ndigest: sha256:[0-9a-f]{64}\n$", run.stdout)


def test_evaluate_takes_a_digest_for_each_router(saved: Path, tmp_path: Path) -> None:
    golden = tmp_path / "golden.csv"
    golden.write_text("prompt,strong-model,weak-model\nhello,1,0\nprove the a?,1,1\nwrite b,1,0\n")
    digest = read_artifact(saved, ROUTER_LAYOUT).digest
    shutil.copytree(saved, tmp_path / "second")
    common = ["--golden", str(golden), "--strong-model", "strong-model", "--weak-model", "weak-model", "--json",
              "--resamples", "2", "--prices", "strong-model=1", "--prices", "weak-model=0.1"]  # fmt: skip
    one = ("evaluate", str(saved), *common)
    run = run_cli(*one, "--digest", digest)
    assert run.returncode == 0, run.stderr
    assert_refused(run_cli(*one, "--digest", "0" * 64), "the digest that was asked for")
    second = f"two={tmp_path / 'second'}"
    two = ("evaluate", str(saved), second, *common)
    assert_refused(run_cli(*two, "--digest", digest), "ROUTER=DIGEST")
    assert_refused(run_cli(*two, "--digest", f"three={digest}"), "ROUTER=DIGEST")
    assert run_cli(*two, "--digest", f"{saved}={digest}", "--digest", f"{second}={digest}").returncode == 0
    assert_refused(run_cli(*two, "--digest", f"{second}=" + "0" * 64), "the digest that was asked for")


def test_a_digest_can_be_signed_by_ssh_keygen_as_the_document_says(saved: Path, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    text = (REPOSITORY / "docs" / "artifact-format.md").read_text()
    (block,) = re.findall(r"```\n(# with ssh-keygen\n.*?)```", text, re.DOTALL)
    digest = rf.load_router(saved).save(tmp_path / "my-router")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()
    (tmp_path / "allowed_signers").write_text(f"you@example.com {public[0]} {public[1]}\n")
    (tmp_path / "my-router.digest").write_text(f"{digest}\n")
    lines = [line for line in block.splitlines() if line.startswith("ssh-keygen")]
    assert len(lines) == 2
    for line in lines:
        command = line.replace("~/.ssh/id_ed25519", str(key))
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "my-router.digest").write_text(f"sha256:{'0' * 64}\n")
    failed = subprocess.run(["sh", "-c", lines[1]], cwd=tmp_path, capture_output=True)
    assert failed.returncode != 0


def test_a_model_name_with_a_zero_character_is_refused() -> None:
    with pytest.raises(rf.InvalidArgumentError, match="zero characters"):
        checked_pair("a\0b", "c")


def test_the_digest_covers_all_that_a_win_rate_depends_on(banked: Path) -> None:
    """Each file but the model card: its bytes are in the manifest, whose digest it is."""
    digest = read_artifact(banked, ROUTER_LAYOUT).digest
    rates = rf.load_router(banked, digest=digest).win_rates(["hello", "prove the a?"])
    for file in sorted(banked.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        if file.name == "README.md":
            found = rf.load_router(banked, digest=digest).win_rates(["hello", "prove the a?"])
            np.testing.assert_array_equal(found, rates)
        else:
            with pytest.raises(rf.ArtifactIntegrityError):
                rf.load_router(banked, digest=digest)
        file.write_bytes(content)
