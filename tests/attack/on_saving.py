"""Directories and files that are written while processes are killed, read and write beside one another."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import routellm_fast as rf
from routellm_fast import cli
from routellm_fast.artifact import ROUTER_LAYOUT, verify_artifact
from routellm_fast.augmentation.battle_rows import BattleRow, write_battles
from routellm_fast.routers.base import Router
from tests.attack.harness import Attack, Campaign
from tests.attack.kills import duration_s, killed, random_delay_s
from tests.attack.operations import dying, operations
from tests.support.builders import mf_router, static_embedder
from tests.support.sw_builders import sw_router

# What somebody keeps beside a router: links are written as what they lead to.
_FOREIGN: Final[dict[str, bytes | Path]] = {
    "labels.csv": b"prompt,score\n",
    ".git/HEAD": b"ref: refs/heads/main\n",
    ".git/objects/ab/cdef": bytes(range(256)) * 40,
    "data/raw/log.txt": b"a log\n",
    "latest": Path("data/raw/log.txt"),
}
_MOST_PUT: Final = 100
_PROMPTS: Final = ["prove the a?", "hello", "write b", "", "a b c"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that is written, in one of two versions.

    Attributes:
        path: The directory or file. Its parent folder holds nothing else.
        write: Writes a version, 0 or 1, over what stands there.
        is_directory: Whether others keep something in it.
        starts_anew: Whether it may also be missing when it is written.
    """

    path: Path
    write: Callable[[int], object]
    is_directory: bool = True
    starts_anew: bool = True


def _under_kills(campaign: Campaign, subject: Subject, count: int) -> None:
    """Kill the writing `count` times, at random moments and between any two operations on files."""
    subject.path.parent.mkdir(exist_ok=True)
    versions = []
    for which in (0, 1):
        _write(subject, which)
        versions.append(_contents(subject.path))
    assert versions[0] != versions[1]
    _put_foreign(subject)
    whole_s = duration_s(lambda: _quietly(subject, 0))
    most = operations(lambda: _quietly(subject, 1), subject.path.parent)
    kills = 0
    while kills < count:
        # What a killed process left is no longer anybody's when its directory is gone, and would come back.
        if subject.starts_anew and campaign.rng.random() < 0.1 and not _beside(subject.path):
            _remove(subject.path)
        before = _contents(subject.path)
        foreign = _foreign(subject.path)
        which = campaign.rng.randrange(2)
        if not _killed(subject, which, campaign.rng, whole_s, most):
            campaign.tally["writes that ended before the kill"] += 1
            before = versions[which]
        else:
            kills += 1
        found = _contents(subject.path)
        assert found in (before, versions[which]), f"{subject.path} is neither the old nor the new one: {sorted(found)}"
        campaign.tally["found as it was to be" if found == versions[which] else "found as it had been"] += 1
        assert _foreign(subject.path) == foreign, f"what others keep in {subject.path} was changed"
        # Not each time: the next write may be killed, too, while it removes what this one left.
        if campaign.rng.random() < 0.5 or kills == count:
            campaign.tally["left beside it by kills, and removed"] += len(_beside(subject.path))
            _write(subject, which)
            assert _contents(subject.path) == versions[which]
            assert _foreign(subject.path) == foreign, f"what others keep in {subject.path} was changed"
            assert not _beside(subject.path), f"left beside {subject.path}: {_beside(subject.path)}"
            _put_foreign(subject)


def _killed(subject: Subject, which: int, rng: random.Random, whole_s: float, most: int) -> bool:
    if rng.random() < 0.5:
        return killed(lambda: _quietly(subject, which), random_delay_s(rng, whole_s))
    work = dying(lambda: _quietly(subject, which), subject.path.parent, rng.randint(1, most))
    return killed(work, 600.0)


def _write(subject: Subject, which: int) -> None:
    assert not killed(lambda: _quietly(subject, which), 600.0)


def _quietly(subject: Subject, which: int) -> None:
    """Write a version without what commands print; in a forked child only."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    subject.write(which)


def _contents(path: Path) -> dict[str, bytes]:
    """All bytes of a file, or of a directory's files but for those of others; {} where nothing is there."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    found = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if name not in _FOREIGN}


def _foreign(path: Path) -> dict[str, tuple[int, bytes | Path]]:
    found = {}
    for name in _FOREIGN:
        file = path / name
        with contextlib.suppress(OSError):
            found[name] = (
                stat.S_IMODE(file.lstat().st_mode),
                file.readlink() if file.is_symlink() else file.read_bytes(),
            )
    return found


def _put_foreign(subject: Subject) -> None:
    for name, content in _FOREIGN.items() if subject.is_directory else ():
        file = subject.path / name
        if os.path.lexists(file):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            file.symlink_to(content)
        else:
            file.write_bytes(content)
            file.chmod(0o640)


def _beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry != path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _save_routers(campaign: Campaign) -> None:
    sources = [campaign.folder / "mf", campaign.folder / "sw"]
    for router, source in zip(_two_routers(), sources, strict=True):
        router.save(source)
    path = campaign.folder / "saved" / "router"
    _under_kills(campaign, Subject(path, lambda which: rf.load_router(sources[which]).save(path)), campaign.count)


def _save_embedders(campaign: Campaign) -> None:
    path = campaign.folder / "saved" / "embedder"
    embedders = [static_embedder(), static_embedder(int8=False)]
    _under_kills(campaign, Subject(path, lambda which: embedders[which].save(path)), campaign.count)


def _calibrate(campaign: Campaign) -> None:
    path, log = campaign.folder / "saved" / "router", campaign.folder / "log.txt"
    mf_router().save(path)
    log.write_text("\n".join(f"prove {'a ' * (number % 9)}{number}" for number in range(60)), encoding="utf-8")

    def calibrate(which: int) -> None:
        share = ["0.2", "0.7"][which]
        options = ["--in-place", "--strong-share", share, "--created", "2026-01-01", "--resamples", "100"]
        assert cli.main(["calibrate", str(path), str(log), *options]) == 0

    _under_kills(campaign, Subject(path, calibrate, starts_anew=False), campaign.count)


def _export(campaign: Campaign) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tritonclient.grpc")
    from routellm_fast.export import export_onnx, export_triton

    router = campaign.folder / "router"
    mf_router().save(router)
    graph, repository = campaign.folder / "graphs" / "graph", campaign.folder / "repositories" / "repository"

    def to_onnx(which: int) -> None:
        export_onnx(router, graph, inputs=["tokens", "embeddings"][which], prompts=_PROMPTS)

    def to_triton(which: int) -> None:
        export_triton(router, repository, mode="native", name=["router", "another"][which])

    few = campaign.count // 4
    _under_kills(campaign, Subject(graph, to_onnx), few)
    _under_kills(campaign, Subject(repository, to_triton), campaign.count - few)


def _write_files(campaign: Campaign) -> None:
    path = campaign.folder / "written" / "battles.csv"
    rows = [
        [BattleRow(f"prompt {number}", str(number), "a", "b", winner, "source", 1.0, "golden") for number in range(400)]
        for winner in ("model_a", "tie")
    ]
    _under_kills(
        campaign, Subject(path, lambda which: write_battles(path, rows[which]), is_directory=False), campaign.count
    )


# --- beside one another -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _children(*works: Callable[[], object]) -> Iterator[list[int]]:
    """Run each work in a forked child of its own; those that still run at the end are killed."""
    children: list[int] = []
    try:
        for work in works:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    work()
                    status = 0
                except Exception:  # noqa: BLE001 - said here, and counted by the status
                    traceback.print_exc()
                finally:
                    os._exit(status)
            children.append(child)
        yield children
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _two_routers() -> list[Router]:
    return [mf_router(), sw_router("int8", added=(9,), model_card="# Another\n")]


def _load_while_saved(campaign: Campaign) -> None:
    path = campaign.folder / "saved" / "router"
    routers = _two_routers()
    for router in reversed(routers):
        router.save(path)
    cards = [router.model_card or routers[0].model_card for router in routers]
    expected = {
        router.kind: (router.win_rates(_PROMPTS).tolist(), card) for router, card in zip(routers, cards, strict=True)
    }

    def save_for_ever() -> None:
        while True:
            for router in routers:
                router.save(path)

    inodes = set()
    with _children(save_for_ever):
        for number in range(campaign.count):
            if number % 10 == 9:
                verify_artifact(path, ROUTER_LAYOUT)
            found = rf.load_router(path)
            assert (found.win_rates(_PROMPTS).tolist(), found.model_card) == expected[found.kind], found.kind
            campaign.tally[f"{found.kind} found"] += 1
            inodes.add(path.stat().st_ino)
    assert len(inodes) > 1, "nothing was saved meanwhile"


def _save_beside(campaign: Campaign) -> None:
    path = campaign.folder / "saved" / "router"
    routers = [*_two_routers(), mf_router(provenance={"created": "third"})]
    expected = []
    for router in routers:
        router.save(path)
        expected.append(_contents(path))
    each, put, total = 10, 0, 0
    for _ in range(max(1, campaign.count // (each * len(routers)))):
        with _children(*(lambda router=router: [router.save(path) for _ in range(each)] for router in routers)) as ids:
            waiting = set(ids)
            while waiting:
                time.sleep(0.002)
                if put < _MOST_PUT:
                    _put_named(path, put)
                    put += 1
                for child in list(waiting):
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        waiting.remove(child)
                        assert os.waitstatus_to_exitcode(status) == 0, "a save ended with an error"
        kept = {file.name: file.read_bytes() for file in path.glob("put-*")}
        assert kept == {f"put-{number}": b"%d" % number for number in range(put)}, "what others put there was lost"
        own = {name: content for name, content in _contents(path).items() if name not in kept}
        assert own in expected, f"neither router: {sorted(own)}"
        assert not _beside(path), f"left beside it: {_beside(path)}"
        total += put
        for name in kept:
            (path / name).unlink()
        put = 0
    campaign.tally["files that were put there meanwhile"] = total


def _put_named(path: Path, number: int) -> None:
    """Put a file into a directory that is replaced all the time, until it is there."""
    while True:
        try:
            (path / f"put-{number}").write_bytes(b"%d" % number)
        except FileNotFoundError:  # the directory was opened just before it was replaced, and is gone
            continue
        return


_HELD = (
    "the path holds the old or the new one to the bit; what others keep there is unchanged; the next write leaves "
    "nothing beside it."
)

ATTACKS = [
    Attack(
        name="saving a router, under kills",
        tried="a router is saved over another, or where none was, and killed at a random moment or between two "
        "operations on files.",
        held=_HELD,
        unit="kills",
        whole=500,
        brief=15,
        run=_save_routers,
    ),
    Attack(
        name="saving an embedder, under kills",
        tried="an embedder is saved over another, or where none was, and killed.",
        held=_HELD,
        unit="kills",
        whole=200,
        brief=10,
        run=_save_embedders,
    ),
    Attack(
        name="calibrating in place, under kills",
        tried="`calibrate --in-place` is killed.",
        held=_HELD,
        unit="kills",
        whole=150,
        brief=2,
        run=_calibrate,
    ),
    Attack(
        name="exporting over an export, under kills",
        tried="an ONNX graph or a model repository of Triton is exported over another, or where none was, and killed.",
        held=_HELD,
        unit="kills",
        whole=200,
        brief=4,
        run=_export,
    ),
    Attack(
        name="writing a file, under kills",
        tried="a file of battles is written over another, or where none was, and killed.",
        held="the path holds the old or the new one to the bit; the next write leaves nothing beside it.",
        unit="kills",
        whole=300,
        brief=20,
        run=_write_files,
    ),
    Attack(
        name="loading while another process saves",
        tried="a router is loaded, every tenth time verified too, while another process saves two routers to its "
        "place without end.",
        held="each load gives the win rates and the model card of one of the two.",
        unit="loads",
        whole=20_000,
        brief=300,
        run=_load_while_saved,
    ),
    Attack(
        name="three processes that save to one place",
        tried="three processes save different routers to one directory, ten times each, while files are put into it.",
        held="no save fails; the directory is one of the three routers, whole; no file that was put there is lost; "
        "nothing is left beside it.",
        unit="saves",
        whole=2000,
        brief=60,
        run=_save_beside,
    ),
]
