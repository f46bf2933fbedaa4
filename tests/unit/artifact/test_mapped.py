from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import routellm_fast as rf
from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, read_artifact, verify_artifact, write_artifact
from tests.support.manifests import editable_manifest
from tests.support.processes import run_python

MANIFEST = {"embedder": {}, "provenance": {}}
BANK = np.arange(12_000, dtype=np.float32).reshape(3000, 4)


def write(path: Path, tensors: dict[str, np.ndarray] | None = None, **mapped: np.ndarray) -> Path:
    write_artifact(path, Artifact(MANIFEST, tensors or {}, mapped=mapped), EMBEDDER_LAYOUT)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    return dict(read_artifact(path, EMBEDDER_LAYOUT).mapped)


def verify(path: Path) -> int:
    return verify_artifact(path, EMBEDDER_LAYOUT)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    manifest = editable_manifest(path / "embedder.json")
    change(manifest)
    (path / "embedder.json").write_text(json.dumps(manifest))


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def header_and_data(path: Path) -> tuple[bytes, bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def put_header(path: Path, text: bytes, *, begin: int = 4096) -> None:
    """Replace a tensor file's header; its data begins there then."""
    data = header_and_data(path)[1]
    path.write_bytes((begin - 8).to_bytes(8, "little") + text.ljust(begin - 8) + data)


def sign(path: Path, name: str = "bank.safetensors") -> None:
    """Let the manifest state what a file has become."""
    content = (path / name).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(path, lambda manifest: manifest["files"].update({name: entry}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write(tmp_path / "router", {"w": np.ones(3, np.float32)}, bank=BANK)


def test_a_mapped_tensor_is_a_safetensors_file_whose_data_begins_on_a_page(saved: Path) -> None:
    np.testing.assert_array_equal(safetensors.numpy.load_file(saved / "bank.safetensors")["bank"], BANK)
    header, data = header_and_data(saved / "bank.safetensors")
    assert (8 + len(header)) % 4096 == 0
    assert data == BANK.tobytes()
    theirs = safetensors.numpy.save({"bank": BANK})
    assert header.rstrip(b" ") == theirs[8 : 8 + int.from_bytes(theirs[:8], "little")].rstrip(b" ")
    manifest = json.loads((saved / "embedder.json").read_text())
    assert manifest["tensors"] == {
        "bank": {"dtype": "float32", "shape": [3000, 4], "file": "bank.safetensors"},
        "w": {"dtype": "float32", "shape": [3]},
    }
    assert set(manifest["files"]) == {"bank.safetensors", "weights.safetensors"}


def test_a_mapped_tensor_is_read_only_aligned_and_outlives_all_else(saved: Path) -> None:
    bank = read(saved)["bank"]
    shutil.rmtree(saved)
    np.testing.assert_array_equal(bank, BANK)
    assert type(bank) is np.ndarray
    assert bank.flags.c_contiguous
    assert bank.ctypes.data % 64 == 0
    assert not bank.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        bank.setflags(write=True)


def test_loading_reads_no_data(tmp_path: Path) -> None:
    path = write(tmp_path / "router", bank=np.empty((0, 1024), np.float32))
    file, size = path / "bank.safetensors", 1 << 30
    put_header(file, b'{"bank":{"dtype":"F32","shape":[262144,1024],"data_offsets":[0,%d]}}' % size)
    os.truncate(file, 4096 + size)  # a hole: a gigabyte that occupies nothing

    def change(manifest: dict) -> None:
        manifest["tensors"]["bank"]["shape"] = [1 << 18, 1024]
        manifest["files"]["bank.safetensors"] = {"bytes": 4096 + size, "sha256": "0" * 64}

    edit(path, change)
    before = resource.getrusage(resource.RUSAGE_SELF)
    bank = read(path)["bank"]
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert bank.nbytes == size
    assert after.ru_maxrss - before.ru_maxrss < 32 << 10
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.1


def test_many_tensors_keep_their_names(tmp_path: Path) -> None:
    names = ["bank", *(f"bank.{number}" for number in range(1, 13))]
    banks = {name: np.full((number, 3), number, np.int8) for number, name in enumerate(names)}
    found = read(write(tmp_path / "router", **banks))
    assert sorted(found) == sorted(names)
    for name, bank in banks.items():
        np.testing.assert_array_equal(found[name], bank)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(BANK),
        BANK[::-1, ::2],
        BANK.astype(">f4"),
        np.broadcast_to(np.float32(2), (5, 7)),
        np.float64(0.5).reshape(()),
    ],
    ids=["fortran", "strided", "big-endian", "broadcast", "scalar"],
)
def test_any_layout_is_written_in_c_order_and_little_endian(tmp_path: Path, array: np.ndarray) -> None:
    path = write(tmp_path / "router", t=array)
    np.testing.assert_array_equal(read(path)["t"], array)
    np.testing.assert_array_equal(safetensors.numpy.load_file(path / "t.safetensors")["t"], array)
    verify(path)


def test_writing_and_verifying_take_no_second_copy(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import resource, sys
        import numpy as np
        from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, verify_artifact, write_artifact

        def write_and_verify(bank):
            artifact = Artifact({"embedder": {}, "provenance": {}}, {}, mapped={"bank": bank})
            write_artifact(sys.argv[1], artifact, EMBEDDER_LAYOUT)
            return verify_artifact(sys.argv[1], EMBEDDER_LAYOUT)

        bank = np.ones((32 << 10, 1024), np.float32)
        write_and_verify(bank[:8])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert write_and_verify(bank) == bank.nbytes + 4096
        assert write_and_verify(bank.T) == bank.nbytes + 4096
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    run = run_python("-c", program, str(tmp_path / "router"))
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 32 << 10  # kilobytes; the tensor has four times as many


def test_what_did_not_change_is_linked_and_not_written_again(saved: Path, tmp_path: Path) -> None:
    artifact = read_artifact(saved, EMBEDDER_LAYOUT)
    more = {**artifact.mapped, "bank.1": BANK[:5]}
    write_artifact(tmp_path / "copy", Artifact(MANIFEST, artifact.tensors, mapped=more), EMBEDDER_LAYOUT)
    assert (tmp_path / "copy" / "bank.safetensors").samefile(saved / "bank.safetensors")
    verify(tmp_path / "copy")
    # What was linked is linked again, and the same contents are the same bytes.
    write_artifact(tmp_path / "third", read_artifact(tmp_path / "copy", EMBEDDER_LAYOUT), EMBEDDER_LAYOUT)
    assert (saved / "bank.safetensors").stat().st_nlink == 3
    assert contents(tmp_path / "third") == contents(tmp_path / "copy")


def test_views_of_the_whole_are_linked_and_parts_are_written(saved: Path, tmp_path: Path) -> None:
    bank = read(saved)["bank"]
    for number, (array, linked) in enumerate(
        [
            (bank[:], True),
            (np.asarray(bank), True),
            (bank.reshape(-1).reshape(3000, 4), True),
            (bank[1:], False),
            (bank[::-1], False),
            (bank.reshape(4, 3000), False),
            (bank.view(np.int32), False),
            (bank.copy(), False),
        ]
    ):
        path = write(tmp_path / str(number), bank=array)
        assert (path / "bank.safetensors").samefile(saved / "bank.safetensors") == linked, number
        np.testing.assert_array_equal(read(path)["bank"], array)
        verify(path)
    renamed = write(tmp_path / "renamed", other=bank)
    assert list(read(renamed)) == ["other"]
    verify(renamed)


@pytest.mark.parametrize("fault", ["other file system", "gone", "replaced", "touched"])
def test_what_cannot_be_linked_is_copied(
    saved: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = read_artifact(saved, EMBEDDER_LAYOUT)
    before = contents(saved)
    file = saved / "bank.safetensors"
    if fault == "other file system":

        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", refuse)
    elif fault == "gone":
        shutil.rmtree(saved)
    elif fault == "replaced":
        file.unlink()
        file.write_bytes(b"something else")
    else:
        os.utime(file, ns=(0, 0))
    write_artifact(tmp_path / "copy", artifact, EMBEDDER_LAYOUT)
    assert contents(tmp_path / "copy") == before
    assert (tmp_path / "copy" / "bank.safetensors").stat().st_nlink == 1


def test_of_a_link_the_file_gets_a_second_name(saved: Path, tmp_path: Path) -> None:
    shutil.move(saved / "bank.safetensors", tmp_path / "blob")
    (saved / "bank.safetensors").symlink_to("../blob")
    artifact = read_artifact(saved, EMBEDDER_LAYOUT)
    assert verify(saved) > BANK.nbytes
    write_artifact(tmp_path / "copy", artifact, EMBEDDER_LAYOUT)
    copied = tmp_path / "copy" / "bank.safetensors"
    assert not copied.is_symlink()
    assert copied.samefile(tmp_path / "blob")
    # A link that leads elsewhere by now: what was mapped is written, not what the name leads to.
    (tmp_path / "other").write_bytes(b"something else")
    (saved / "bank.safetensors").unlink()
    (saved / "bank.safetensors").symlink_to("../other")
    write_artifact(tmp_path / "third", artifact, EMBEDDER_LAYOUT)
    np.testing.assert_array_equal(read(tmp_path / "third")["bank"], BANK)
    verify(tmp_path / "third")


def test_a_file_that_was_changed_in_place_is_not_written_anew(saved: Path, tmp_path: Path) -> None:
    artifact = read_artifact(saved, EMBEDDER_LAYOUT)
    with (saved / "bank.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\1")
    os.utime(saved / "bank.safetensors", ns=(0, 0))
    with pytest.raises(rf.ArtifactIntegrityError, match="was changed"):
        write_artifact(tmp_path / "copy", artifact, EMBEDDER_LAYOUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]


def test_overwriting_the_directory_that_was_loaded_disturbs_nobody(saved: Path) -> None:
    first = read_artifact(saved, EMBEDDER_LAYOUT)
    write_artifact(saved, Artifact(MANIFEST, first.tensors, mapped={**first.mapped, "bank.1": BANK}), EMBEDDER_LAYOUT)
    second = read_artifact(saved, EMBEDDER_LAYOUT)
    write_artifact(saved, second, EMBEDDER_LAYOUT)
    write(saved, bank=BANK + 1)
    for mapped in (first.mapped["bank"], second.mapped["bank"], second.mapped["bank.1"]):
        np.testing.assert_array_equal(mapped, BANK)
    np.testing.assert_array_equal(read(saved)["bank"], BANK + 1)
    write_artifact(saved, second, EMBEDDER_LAYOUT)  # whose files have no name by now
    np.testing.assert_array_equal(read(saved)["bank"], BANK)
    verify(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_a_disk_that_fills_up_while_saving_loses_nothing(saved: Path) -> None:
    before = contents(saved)
    # A limit on file sizes is what a full disk is to a program: write() fails half-way.
    program = textwrap.dedent(
        """
        import resource, signal, sys
        import numpy as np
        import routellm_fast as rf
        from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, write_artifact
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
        artifact = Artifact({"embedder": {}, "provenance": {}}, {}, mapped={"bank": np.ones((2 << 20, 4), np.float32)})
        try:
            write_artifact(sys.argv[1], artifact, EMBEDDER_LAYOUT)
        except rf.ArtifactWriteError as error:
            assert "unchanged" in str(error), error
            sys.exit(7)
        """
    )
    run = run_python("-c", program, str(saved))
    assert run.returncode == 7, run.stderr
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    bank = np.zeros((1500, 1000), np.float32)
    bank[1300, 7] = -np.inf  # beyond the first chunk
    for array in (bank, np.asfortranarray(bank)):
        with pytest.raises(rf.ArtifactIntegrityError, match=r"router: tensor bank has -inf at \(1300, 7\)"):
            write(tmp_path / "router", bank=array)
    assert not list(tmp_path.iterdir())


def test_verifying_finds_what_loading_does_not_look_for(saved: Path) -> None:
    steps: list[tuple[int, int]] = []
    total = verify_artifact(saved, EMBEDDER_LAYOUT, on_progress=lambda done, all_: steps.append((done, all_)))
    assert total == sum(file.stat().st_size for file in saved.iterdir() if file.name != "embedder.json")
    assert steps[-1] == (total, total)
    content = bytearray((saved / "bank.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "bank.safetensors").write_bytes(content)
    read(saved)
    with pytest.raises(rf.ArtifactIntegrityError, match=r"bank\.safetensors has sha256"):
        verify(saved)


def test_verifying_finds_values_that_are_not_finite_behind_a_fitting_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "router", bank=np.zeros((1500, 1000), np.float32))
    with (path / "bank.safetensors").open("r+b") as file:
        file.seek(4096 + 4 * 1_300_007)
        file.write(np.float32("nan").tobytes())
    with pytest.raises(rf.ArtifactIntegrityError, match="sha256"):
        verify(path)
    sign(path)
    read(path)
    with pytest.raises(rf.ArtifactIntegrityError, match=r"tensor bank has nan at \(1300, 7\)"):
        verify(path)


def test_a_truncated_or_longer_file_is_refused(saved: Path) -> None:
    file = saved / "bank.safetensors"
    content = file.read_bytes()
    for damaged in (content[:-1], content[:4000], content[:5], b"", content + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(rf.ArtifactIntegrityError, match=r"bank\.safetensors has bytes .* manifest says 52096"):
            read(saved)


@pytest.mark.parametrize("stands", ["nothing", "link to nothing", "pipe", "folder"])
def test_what_stands_in_a_file_s_place_is_refused(saved: Path, tmp_path: Path, stands: str) -> None:
    for name in ("bank.safetensors", "weights.safetensors"):
        file = saved / name
        shutil.move(file, tmp_path / "elsewhere")
        if stands == "link to nothing":
            file.symlink_to(tmp_path / "nowhere")
        elif stands == "pipe":
            os.mkfifo(file)
        elif stands == "folder":
            file.mkdir()
        with pytest.raises((rf.ArtifactNotFoundError, rf.ArtifactIntegrityError), match=name):
            read(saved)
        shutil.rmtree(file) if stands == "folder" else file.unlink(missing_ok=True)
        shutil.move(tmp_path / "elsewhere", file)
    read(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"F32"', b'"I32"'),
        (b"[3000,4]", b"[4,3000]"),
        (b"[0,48000]", b"[0,48001]"),
        (b"[0,48000]", b"[4,48004]"),
        (b'"bank"', b'"tank"'),
        (b'{"bank"', b'{ "bank"'),
        (b"}}", b'},"__metadata__":{}}'),
        (b"}}", b"}"),
        (b"{", b"\xff"),
    ],
)
def test_a_header_that_differs_from_the_manifest_is_refused(saved: Path, old: bytes, new: bytes) -> None:
    header = header_and_data(saved / "bank.safetensors")[0].rstrip(b" ")
    assert old in header
    put_header(saved / "bank.safetensors", header.replace(old, new, 1))
    with pytest.raises(rf.ArtifactFormatError, match="its header is"):
        read(saved)


def test_a_header_longer_than_its_file_or_the_limit_is_refused(saved: Path) -> None:
    file = saved / "bank.safetensors"
    content = file.read_bytes()
    text = header_and_data(file)[0].rstrip(b" ")
    for length in (65_537, 1 << 40, (1 << 64) - 1):
        file.write_bytes(length.to_bytes(8, "little") + content[8:])
        with pytest.raises(rf.ArtifactFormatError, match=f"claims {length} bytes; at most 65536"):
            read(saved)
    spaces = (60_000).to_bytes(8, "little") + text.ljust(52_088)
    for damaged, found in (
        (spaces, "its data begins at byte 52096"),
        (b"", 'its header is "", the manifest'),
        (bytes(6), 'its header is "", the manifest'),
    ):
        file.write_bytes(damaged)
        sign(saved)
        with pytest.raises(rf.ArtifactFormatError, match=found):
            read(saved)


def test_data_may_begin_on_any_border_of_64_bytes(saved: Path, tmp_path: Path) -> None:
    file = saved / "bank.safetensors"
    text = header_and_data(file)[0].rstrip(b" ")
    for begin in (128, 65_536, 128 + 32, 127):
        put_header(file, text, begin=begin)
        sign(saved)
        if begin % 64:
            with pytest.raises(rf.ArtifactFormatError, match="expected a multiple of 64"):
                read(saved)
        else:
            np.testing.assert_array_equal(read(saved)["bank"], BANK)
            verify(saved)
    put_header(file, text, begin=128)
    sign(saved)
    bank, before = read(saved)["bank"], file.read_bytes()
    shutil.rmtree(saved)
    assert (write(tmp_path / "copy", bank=bank) / "bank.safetensors").read_bytes() == before


def test_data_that_ends_elsewhere_than_its_file_is_refused(saved: Path) -> None:
    file = saved / "bank.safetensors"
    content = file.read_bytes()
    for damaged in (content[:-4], content + bytes(64)):
        file.write_bytes(damaged)
        sign(saved)
        with pytest.raises(rf.ArtifactFormatError, match=r"a header of 4096 and float32 \(3000, 4\) make 52096"):
            read(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "weights.safetensors"},
        {"file": "other.safetensors"},
        {"file": None},
        {"dtype": "float33"},
        {"dtype": "bfloat16"},
        {"dtype": ["float32"]},
        {"shape": [-3000, -4]},
        {"shape": [3000.0, 4]},
        {"shape": [True, 12000]},
        {"shape": [1 << 63]},
        {"shape": [1] * 33},
        {"shape": "[3000, 4]"},
        {"color": "blue"},
    ],
)
def test_a_manifest_that_misdescribes_a_file_is_refused(saved: Path, changes: dict[str, object]) -> None:
    edit(saved, lambda manifest: manifest["tensors"]["bank"].update(changes))
    with pytest.raises(rf.ArtifactFormatError, match=r"tensors\.bank must be an object"):
        read(saved)


@pytest.mark.parametrize("name", ["weights", "", ".bank", "../bank", "bänk", "bank\n", "a b"])
def test_names_that_are_no_file_s_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(rf.ArtifactFormatError, match="cannot name a tensor"):
        write(tmp_path / "other", **{name: BANK})
    edit(saved, lambda manifest: manifest["tensors"].update({name: manifest["tensors"].pop("bank")}))
    edit(saved, lambda manifest: manifest["tensors"][name].update(file=f"{name}.safetensors"))
    with pytest.raises(rf.ArtifactFormatError):
        read(saved)


def test_a_file_without_a_size_and_digest_is_refused(saved: Path) -> None:
    edit(saved, lambda manifest: manifest["files"].pop("bank.safetensors"))
    with pytest.raises(rf.ArtifactFormatError, match=r"bank\.safetensors, which files does not list"):
        read(saved)


def test_a_digest_that_is_none_is_refused_though_it_is_not_compared(saved: Path) -> None:
    edit(saved, lambda manifest: manifest["files"]["bank.safetensors"].update(sha256="unknown"))
    with pytest.raises(rf.ArtifactFormatError, match="64 hexadecimal digits"):
        read(saved)


def test_a_shape_beyond_all_memory_is_refused(saved: Path) -> None:
    shape = [0, 1 << 62, 1 << 62]
    text = b'{"bank":{"dtype":"F32","shape":[%d,%d,%d],"data_offsets":[0,0]}}' % tuple(shape)
    (saved / "bank.safetensors").write_bytes((4088).to_bytes(8, "little") + text.ljust(4088))
    sign(saved)
    edit(saved, lambda manifest: manifest["tensors"]["bank"].update(shape=shape))
    with pytest.raises(rf.ArtifactFormatError, match="the manifest says one of a possible size"):
        read(saved)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(rf.ArtifactFormatError, match=r"tensor t is complex64; expected one of int8"):
        write(tmp_path / "router", t=np.zeros(3, np.complex64))
    with pytest.raises(rf.ArtifactFormatError, match="bank names two tensors"):
        write(tmp_path / "router", {"bank": BANK}, bank=BANK)
    artifact = Artifact(MANIFEST, {}, {"bank.safetensors": b""}, mapped={"bank": BANK})
    with pytest.raises(rf.ArtifactFormatError, match="bank names two tensors"):
        write_artifact(tmp_path / "router", artifact, EMBEDDER_LAYOUT)
    assert not list(tmp_path.iterdir())
