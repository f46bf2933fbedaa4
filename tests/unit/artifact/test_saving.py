"""What saving does with what lies at its place already, and with what killed processes left beside it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import routellm_fast as rf
from routellm_fast import _foreign, _neighbours, _renames
from routellm_fast.atomic import replaced_file, staged_directory
from routellm_fast.owned import Owned
from routellm_fast.places import check_vacant, check_writable
from routellm_fast.routers import RandomRouter
from tests.support.builders import mf_router, static_embedder
from tests.support.manifests import editable_manifest
from tests.support.processes import run_python

LATER = {"created": "later"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "parent" / "router"
    mf_router().save(path)
    return path


def put_foreign(folder: Path) -> None:
    """Put into a folder what users keep beside a router."""
    (folder / "labels.csv").write_text("prompt,score\n")
    (folder / ".gitignore").write_text("*.tmp\n")
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / "log.txt").write_text("a log")
    (folder / "data" / "empty").mkdir()
    (folder / ".git" / "objects").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (folder / ".git" / "objects" / "ab").write_bytes(b"\0object")
    (folder / ".git" / "objects" / "ab").chmod(0o444)
    (folder / ".git" / "objects").chmod(0o555)
    (folder / "latest").symlink_to("data/raw/log.txt")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")


def described(folder: Path) -> dict[str, tuple[int, object]]:
    """All that lies in a folder but what a router consists of: permissions, and bytes or where a link leads."""
    own = {"router.json", "README.md", "weights.safetensors", "tokenizer.json"}
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        if path.relative_to(folder).as_posix() not in own:
            found[path.relative_to(folder).as_posix()] = (status.st_mode, content)
    return found


@pytest.mark.parametrize("links", ["links", "no links", "no exchange"])
def test_what_is_not_the_routers_stays_where_it_is(saved: Path, links: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if links == "no links":

        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    if links == "no exchange":
        monkeypatch.setattr(_renames, "_renameat2", lambda *_: False)
    put_foreign(saved)
    if links == "no links":
        (saved / "pipe").unlink()
    before = described(saved)
    for number in range(3):
        mf_router(provenance={"created": str(number)}).save(saved)
        assert rf.load_router(saved).provenance == {"created": str(number)}
        assert described(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_files_of_the_old_router_go_and_files_of_nobody_stay(saved: Path) -> None:
    RandomRouter(model_pair=rf.ModelPair("a", "b")).save(saved)
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md",
        "router.json",
    ]  # the card is free to be edited


def test_a_file_that_is_not_the_routers_is_never_replaced(saved: Path) -> None:
    RandomRouter(model_pair=rf.ModelPair("a", "b")).save(saved)
    (saved / "tokenizer.json").write_text("mine")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(rf.OutputExistsError, match=r"router/tokenizer\.json would be replaced"):
        mf_router().save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_a_folder_with_the_name_of_a_routers_file_is_never_replaced(saved: Path) -> None:
    (saved / "weights.safetensors").unlink()
    (saved / "weights.safetensors").mkdir()
    (saved / "weights.safetensors" / "thesis.txt").write_text("mine")
    with pytest.raises(rf.OutputExistsError, match=r"weights\.safetensors would be replaced"):
        mf_router().save(saved)
    assert (saved / "weights.safetensors" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"name": "express"}', "\x00", '{"files": {"thesis.txt": {}}}',
        '{"format_version": 1, "files": {"thesis.txt": {"bytes": 1, "sha256": ""}}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_named_like_a_manifest_makes_no_router_directory(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "website"
    folder.mkdir()
    (folder / "router.json").write_text(text)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(rf.ArtifactWriteError, match=r"left alone.*router\.json is no manifest"):
        mf_router().save(folder)
    assert (folder / "router.json").read_text() == text
    assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["../thesis.txt", "/etc/hostname", "..", ".", "", "a/b", ".git", "nul\0", "a\\b"])
def test_a_manifest_that_names_what_lies_elsewhere_is_refused(saved: Path, name: str) -> None:
    (saved.parent / "thesis.txt").write_text("mine")
    manifest = editable_manifest(saved / "router.json")
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (saved / "router.json").write_text(json.dumps(manifest))
    with pytest.raises(rf.ArtifactWriteError, match="only bare names"):
        mf_router().save(saved)
    assert (saved.parent / "thesis.txt").read_text() == "mine"


def test_a_manifest_of_a_later_version_is_refused(saved: Path) -> None:
    manifest = json.loads((saved / "router.json").read_text())
    (saved / "router.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(rf.ArtifactWriteError, match="left alone.*99"):
        mf_router().save(saved)


def test_of_a_link_into_a_cache_only_the_link_goes(saved: Path) -> None:
    blobs = saved.parent / "blobs"
    blobs.mkdir()
    for file in list(saved.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(f"../blobs/{file.name}")
    before = {path.name: path.read_bytes() for path in blobs.iterdir()}
    mf_router(provenance=LATER).save(saved)
    assert rf.load_router(saved).provenance == LATER
    assert {path.name: path.read_bytes() for path in blobs.iterdir()} == before
    assert not (saved / "router.json").is_symlink()


def test_a_model_card_stays_as_it_is_unless_there_is_another(saved: Path) -> None:
    (saved / "README.md").write_bytes(b"# caf\xe9 in Latin-1\n")
    rf.load_router(saved).save(saved)  # decoding it loses a byte
    assert (saved / "README.md").read_bytes() == b"# caf\xe9 in Latin-1\n"
    mf_router(model_card="").save(saved)
    assert (saved / "README.md").read_bytes() == b"# caf\xe9 in Latin-1\n"
    mf_router(model_card="# Another\n").save(saved)
    assert (saved / "README.md").read_bytes() == b"# Another\n"


def test_permissions_stay(saved: Path) -> None:
    saved.chmod(0o700)
    (saved / "router.json").chmod(0o600)
    (saved / "weights.safetensors").chmod(0o640)
    mf_router(provenance=LATER).save(saved)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (saved, *saved.iterdir())}
    assert (modes["router"], modes["router.json"], modes["weights.safetensors"]) == (0o700, 0o600, 0o640)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o077, 0o700, 0o600), (0o002, 0o775, 0o664)])
def test_what_is_new_follows_the_umask(tmp_path: Path, mask: int, folder: int, file: int) -> None:
    with umask(mask):
        mf_router().save(tmp_path / "router")
        with replaced_file(tmp_path / "out.csv") as stream:
            stream.write(b"a")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("router") == folder
    assert set(modes.values()) == {file}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_stay(saved: Path) -> None:
    put_foreign(saved)
    for path in (saved, *saved.rglob("*")):
        os.chown(path, 1234, 2345, follow_symlinks=False)
    with replaced_file(saved / "labels.csv") as file:
        file.write(b"new")
    mf_router(provenance=LATER).save(saved)
    for path in (saved, *saved.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 2345), path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_belongs_to_another_user_is_refused_unless_it_can_stay() -> None:
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        import routellm_fast as rf
        from tests.support.builders import mf_router
        from tests.unit.artifact.test_saving import described, put_foreign
        router = Path(sys.argv[1])
        first, second = mf_router(), mf_router(provenance={"created": "later"})
        for _ in range(2):  # loads all modules, which the other user might not read
            first.save(sys.argv[2])
        os.setgid(2345), os.setuid(1234)
        first.save(router)
        put_foreign(router)
        (router / "data" / "locked").mkdir(mode=0o555)
        before = described(router)
        second.save(router)
        assert described(router) == before
        assert os.listdir(router.parent) == ["router"], os.listdir(router.parent)
        """
    )
    again = textwrap.dedent(
        """
        import os, sys
        import routellm_fast as rf
        from tests.support.builders import mf_router
        third = mf_router(provenance={"created": "third"})
        for _ in range(2):
            third.save(sys.argv[2])
        os.setgid(2345), os.setuid(1234)
        try:
            third.save(sys.argv[1])
        except rf.ArtifactWriteError as error:
            print(error)
        """
    )
    with tempfile.TemporaryDirectory() as name:  # other users may not enter the folders of pytest
        top = Path(name)
        top.chmod(0o755)
        parent = top / "parent"
        parent.mkdir()
        os.chown(parent, 1234, 2345)
        places = [str(parent / "router"), str(top / "roots")]
        run = run_python("-c", program, *places)
        assert run.returncode == 0, run.stderr
        for kind, mode, words in (("folder", 0o755, "another user"), ("file", 0o600, "Permission denied")):
            theirs = parent / "router" / kind
            theirs.mkdir() if kind == "folder" else theirs.write_text("theirs")
            theirs.chmod(mode)
            run = run_python("-c", again, *places)
            assert f"{kind}, which lies there, cannot be carried over" in run.stdout, run
            assert words in run.stdout
            assert rf.load_router(parent / "router").provenance == LATER
            assert [path.name for path in parent.iterdir()] == ["router"]
            assert theirs.lstat().st_uid == 0
            theirs.rmdir() if kind == "folder" else theirs.unlink()


def test_saving_to_the_working_directory(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    mf_router(provenance=LATER).save(".")
    assert rf.load_router(saved).provenance == LATER
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_an_empty_directory_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir(mode=0o711)
    mf_router().save(tmp_path / "router")
    assert stat.S_IMODE((tmp_path / "router").stat().st_mode) == 0o711


OWNED = Owned("manifest", frozenset({"manifest", "weights"}))


def write(path: Path, content: bytes = b"new") -> None:
    with staged_directory(path, lambda _: OWNED) as staging:
        for name in ("manifest", "weights"):
            (staging / name).write_bytes(content)


def test_what_appears_while_a_directory_is_replaced_is_moved_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d"
    write(path, b"old")
    (path / "kept").write_text("old")
    (path / "edited").write_text("old")
    (path / "folder").mkdir()
    exchange = _renames.exchange

    def late(one: Path, other: Path) -> bool:
        (path / "appeared").write_text("late")
        (path / "folder" / "appeared").write_text("late")
        (path / "new folder").mkdir()
        (path / "edited.tmp").write_text("late")
        (path / "edited.tmp").rename(path / "edited")  # as editors save
        return exchange(one, other)

    monkeypatch.setattr(_renames, "exchange", late)
    write(path)
    found = {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    assert found == {
        "manifest": "new", "weights": "new", "kept": "old", "edited": "late", "appeared": "late",
        "folder/appeared": "late",
    }  # fmt: skip
    assert (path / "new folder").is_dir()
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("moment", ["carry_over", "exchange", "take_apart", "no exchange"])
def test_a_crash_loses_nothing_and_the_next_save_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "d"
    write(path, b"old")
    (path / "foreign").write_text("mine")
    (path / ".git").mkdir()
    (path / ".git" / "HEAD").write_text("mine")

    class Killed(BaseException):
        pass

    def killed(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        # A process that is killed has no time to tidy up.
        patch.setattr(_foreign, "remove_own", lambda _: None)
        if moment == "carry_over":
            carry_over = _foreign.carry_over
            patch.setattr(_foreign, "carry_over", lambda *args: (carry_over(*args), killed()))
        elif moment == "no exchange":
            patch.setattr(_renames, "exchange", lambda *_: False)
            rename = Path.rename
            patch.setattr(
                Path, "rename", lambda self, to: killed() if self.name == "turn" and to == path else rename(self, to)
            )
        else:
            patch.setattr(_renames if moment == "exchange" else _foreign, moment, killed)
        with pytest.raises(Killed):
            write(path, b"first")
    assert len(list(tmp_path.iterdir())) == (1 if moment == "no exchange" else 2)
    write(path, b"second")
    found = {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    assert found == {"manifest": "second", "weights": "second", "foreign": "mine", ".git/HEAD": "mine"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


def test_what_living_processes_and_others_have_beside_a_directory_stays(tmp_path: Path) -> None:
    path = tmp_path / "d"
    others = [".d.tmp", ".d.0123456789abcdef.tmp", ".d.0123456789abcdef", ".d.0123456789ABCDEF.routellm-fast",
              ".dd.0123456789abcdef.routellm-fast", ".d.routellm-fast",
              ".d.x.0123456789abcdef.routellm-fast"]  # fmt: skip
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    left = tmp_path / ".d.0123456789abcdef.routellm-fast"
    (left / "new").mkdir(parents=True)
    with _neighbours.new_folder(path) as living, _neighbours.new_file(path, 0o600) as (living_file, _):
        write(path)
        assert living.exists()
        assert living_file.exists()
        assert not left.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["d", *others])


def test_processes_that_replace_one_directory_wait_for_one_another(tmp_path: Path) -> None:
    path = tmp_path / "d"
    write(path)
    (path / "foreign").write_text("mine")
    faults: list[BaseException] = []

    def work(content: bytes) -> None:
        try:
            for _ in range(20):
                write(path, content)
        except BaseException as error:  # noqa: BLE001 - told by the test
            faults.append(error)

    threads = [threading.Thread(target=work, args=(bytes([65 + number]) * 9,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert (path / "manifest").read_bytes() == (path / "weights").read_bytes()
    assert sorted(entry.name for entry in path.iterdir()) == ["foreign", "manifest", "weights"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


def test_a_directory_that_somebody_keeps_locked_is_a_named_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbours, "_LOCK_WAIT_S", 0.05)
    held = _neighbours.lock_folder(saved)
    assert held is not None
    with pytest.raises(rf.ArtifactWriteError, match="another process has kept it locked"):
        mf_router(provenance=LATER).save(saved)
    _neighbours.release(held)
    mf_router(provenance=LATER).save(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


def test_a_mounted_folder_is_refused_before_anything_changed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved / "mounted").mkdir()
    lstat = Path.lstat

    def elsewhere(self: Path) -> os.stat_result:
        found = lstat(self)
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:])) if self.name == "mounted" else found

    monkeypatch.setattr(Path, "lstat", elsewhere)
    with pytest.raises(rf.ArtifactWriteError, match=r"mounted, which lies there, cannot be carried over: .*mounted"):
        mf_router(provenance=LATER).save(saved)
    assert rf.load_router(saved).provenance != LATER
    assert [path.name for path in saved.parent.iterdir()] == ["router"]


# --- files ------------------------------------------------------------------------------------------------------------


def put(path: Path, content: bytes = b"new") -> None:
    with replaced_file(path) as file:
        file.write(content)


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    target = tmp_path / "kept" / "target.csv"
    target.write_bytes(b"old")
    target.chmod(0o600)
    (tmp_path / "link.csv").symlink_to("kept/target.csv")
    (tmp_path / "dangling.csv").symlink_to("kept/missing.csv")
    put(tmp_path / "link.csv")
    put(tmp_path / "dangling.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "dangling.csv").is_symlink()
    assert target.read_bytes() == (tmp_path / "kept" / "missing.csv").read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["missing.csv", "target.csv"]


def test_devices_and_fifos_are_written_to(tmp_path: Path) -> None:
    put(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    put(fifo)
    reader.join()
    assert found == [b"new"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo.csv"]


@pytest.mark.parametrize("mode", ["w", "a"])
def test_standard_output_is_written_to_where_it_is(tmp_path: Path, mode: str) -> None:
    out = tmp_path / "out.txt"
    out.write_text("kept\n")
    program = (
        "from pathlib import Path; from routellm_fast.atomic import replaced_file\n"
        "print('before', flush=True)\n"
        "with replaced_file(Path('/dev/stdout')) as file: file.write(b'within\\n')\n"
        "print('after', flush=True)"
    )
    with out.open(mode) as stream:
        subprocess.run([sys.executable, "-c", program], stdout=stream, check=True)
    assert out.read_text() == ("kept\n" if mode == "a" else "") + "before\nwithin\nafter\n"
    assert run_python("-c", program).stdout == "before\nwithin\nafter\n"


def test_what_killed_processes_left_of_a_file_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    (tmp_path / ".out.csv.0123456789abcdef.routellm-fast").write_bytes(b"half of i")
    (tmp_path / ".out.csv.tmp").write_bytes(b"mine")
    put(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.csv.tmp", "out.csv"]


def test_what_is_written_to_and_not_replaced_needs_no_force(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("missing")
    for path in (Path("/dev/null"), Path("/dev/stdout"), tmp_path / "fifo", tmp_path / "dangling", tmp_path / "none"):
        check_vacant(path, force=False)
    with pytest.raises(rf.OutputExistsError):
        check_vacant(tmp_path / "file", force=False)
    check_vacant(tmp_path / "file", force=True)


def test_asking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "not" / "there")
    monkeypatch.setattr(os, "O_TMPFILE", os.O_EXCL)  # a file system without such files
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="."):
        check_writable(Path("/proc/self"))


def test_an_embedder_keeps_what_lies_beside_it(tmp_path: Path) -> None:
    static_embedder().save(tmp_path / "e")
    put_foreign(tmp_path / "e")
    static_embedder(normalize=True).save(tmp_path / "e")
    assert (tmp_path / "e" / "data" / "raw" / "log.txt").read_text() == "a log"
    assert (tmp_path / "e" / ".git" / "HEAD").exists()
    with pytest.raises(rf.ArtifactWriteError, match="left alone"):
        mf_router().save(tmp_path / "e")
    assert Owned().folders() == set()
