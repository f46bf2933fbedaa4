"""Files that processes read while others kill, damage, cut off and replace what they work with."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

import routellm_fast as rf
from routellm_fast.routers import SimilarityWeightedRouter
from tests.attack.harness import Attack, Campaign
from tests.attack.kills import duration_s, killed, random_delay_s
from tests.support.fake_model import Model, vectors_of
from tests.support.sw_builders import MODELS, battles

_DIM: Final = 300
_TEXTS: Final = [f"text {number}" for number in range(120)]
_VECTORS: Final = vectors_of(_TEXTS, _DIM)
# A call that takes longer hangs, or waits for a lock that nobody gives up.
_LONGEST_S: Final = 30.0


# --- processes beside the attack


def _run_child(work: Callable[[], dict[str, int]], report: int) -> None:
    status = 1
    try:
        os.write(report, json.dumps(work()).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


@contextlib.contextmanager
def _beside(work: Callable[[Callable[[], bool]], dict[str, int]], count: int, tally: Counter[str]) -> Iterator[None]:
    """Run the work in several forked children until the block ends: it is given a function that says when to stop.

    Raises:
        AssertionError: A child ended before, by a signal or an error, or did not stop.
    """
    stop_read, stop_write = os.pipe()
    children: dict[int, int] = {}
    for _ in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(stop_write)
            os.set_blocking(stop_read, False)

            def stops() -> bool:
                try:
                    return os.read(stop_read, 1) == b""
                except BlockingIOError:
                    return False

            _run_child(lambda: work(stops), write)
        os.close(write)
        children[child] = read
    os.close(stop_read)
    try:
        yield
    finally:
        os.close(stop_write)
        faults = [_fault(child) for child in children]
        for read in children.values():
            with os.fdopen(read, "rb") as file:
                tally.update(json.loads(file.read() or b"{}"))
    assert not any(faults), f"a process beside the attack {next(filter(None, faults))}"


def _fault(child: int) -> str:
    """Wait for a child. Return how it failed; nothing where it did not."""
    until_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < until_s:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
            return "" if os.WEXITSTATUS(status) == 0 else "raised an error; its traceback stands above"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"did not end in {_LONGEST_S:g} s"


# --- the store of embeddings


def _check(cached: rf.CachedEmbedder, rng: random.Random, count: int = 10) -> None:
    rows = rng.sample(range(len(_TEXTS)), count)
    began_s = time.monotonic()
    found = cached.embed([_TEXTS[row] for row in rows])
    assert np.array_equal(found, _VECTORS[rows]), "a wrong vector"
    assert time.monotonic() - began_s < _LONGEST_S, "a call took too long"


def _check_that_it_works(cached: rf.CachedEmbedder, rng: random.Random) -> None:
    """Damage is found where it is read or written, perhaps bit by bit; then everything is stored anew, and found."""
    for _ in range(8):
        before = cached.stats.store_hits
        _check(cached, rng, len(_TEXTS))
        if cached.stats.store_hits - before == len(_TEXTS):
            return
    raise AssertionError("the store does not work any more")


def _embed_until(stops: Callable[[], bool], path: Path, *, may_refuse: bool) -> dict[str, int]:
    """Embed in two threads, with a cache that is opened anew at times; return what happened."""
    happened: Counter[str] = Counter()
    faults: list[BaseException] = []
    ended = threading.Event()

    def embed(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not ended.is_set():
                try:
                    cached = rf.CachedEmbedder(Model(dim=_DIM), 0, path)
                except rf.EmbedderUnavailableError:
                    happened["openings refused by name"] += 1
                    if not may_refuse:
                        raise
                    time.sleep(0.001)
                    continue
                with cached:
                    for _ in range(rng.randrange(40)):
                        _check(cached, rng)
                    stats = cached.stats
                happened["vectors read from the store beside"] += stats.store_hits
                happened["vectors found damaged by their checksum"] += stats.store_damaged
        except BaseException as error:  # noqa: BLE001 - raised by the child's main thread
            faults.append(error)

    threads = [threading.Thread(target=embed, args=(os.getpid() * 2 + number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while not stops() and not faults:
        time.sleep(0.002)
    ended.set()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return dict(happened)


def _write(path: Path, seed: int) -> None:
    """Open a store, and read and write it."""
    rng = random.Random(seed)
    with rf.CachedEmbedder(Model(dim=_DIM), 0, path) as cached:
        for number in range(12):
            cached.embed([f"new {seed} {number} {k}" for k in range(rng.randrange(1, 8))])
            _check(cached, rng)


@contextlib.contextmanager
def _quietly(package: str = "routellm_fast.embedders") -> Iterator[None]:
    """Keep back the warnings of what is damaged and made again: thousands."""
    logger = logging.getLogger(package)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _kill_writers(campaign: Campaign) -> None:
    path = campaign.folder / "store"
    with rf.CachedEmbedder(Model(dim=_DIM), 0, path) as cached:
        cached.embed(_TEXTS)
    whole_s = duration_s(lambda: _write(path, -1))
    with _beside(functools.partial(_embed_until, path=path, may_refuse=False), 1, campaign.tally):
        for number in range(campaign.count):
            delay_s = random_delay_s(campaign.rng, whole_s)
            campaign.tally["killed in time"] += killed(functools.partial(_write, path, number), delay_s)
            model = Model(dim=_DIM)
            with rf.CachedEmbedder(model, 0, path) as cached:
                _check(cached, campaign.rng, len(_TEXTS))
                assert not model.seen, f"{len(model.seen)} vectors that had been stored are gone"
                assert cached.stats.store_damaged == 0, "a vector was damaged by a kill"


class _Damage:
    """Random damage to what lies in a store's folder, and the mending of what nothing but a hand can mend."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self._path = path
        self._rng = rng
        self._obstacle: Path | None = None
        self._copy = b""

    def once(self) -> str:
        """Do one kind of damage; return its name."""
        self.mend()
        files = [file for file in sorted(self._path.glob("*")) if file.is_file()] if self._path.is_dir() else []
        if not files:
            return "nothing there yet"
        # The data most often.
        file = max(files, key=lambda file: file.stat().st_size) if self._rng.random() < 0.6 else self._rng.choice(files)
        kinds = (
            self._flip, self._flip, self._flip_header, self._cut, self._cut, self._punch, self._append, self._overwrite,
            self._put_back, self._swap, self._remove, self._replace, self._obstruct, self._forbid, self._remove_folder,
        )  # fmt: skip
        kind = self._rng.choice(kinds)
        kind(file)
        return f"damage by {kind.__name__.strip('_').replace('_', ' ')}"

    def mend(self) -> None:
        if self._obstacle is not None:
            with contextlib.suppress(OSError):
                self._obstacle.rmdir()
            self._obstacle = None

    def _change(self, file: Path, offset: int, content: bytes) -> None:
        with file.open("r+b") as out:
            out.seek(offset)
            out.write(content)

    def _flip(self, file: Path) -> None:
        size = file.stat().st_size
        for _ in range(self._rng.choice((1, 1, 10, 100)) if size else 0):
            self._change(file, self._rng.randrange(size), self._rng.randbytes(1))

    def _flip_header(self, file: Path) -> None:
        size = min(file.stat().st_size, 200)
        if size:
            self._change(file, self._rng.randrange(size), bytes([self._rng.choice((0, 1, 2, 3, 7, 255))]))

    def _cut(self, file: Path) -> None:
        os.truncate(file, self._rng.choice((0, self._rng.randrange(file.stat().st_size + 1))))

    def _punch(self, file: Path) -> None:
        size = file.stat().st_size
        begin = self._rng.randrange(size + 1)
        self._change(file, begin, bytes(min(self._rng.choice((512, 4096, 50_000)), size - begin)))

    def _append(self, file: Path) -> None:
        with file.open("ab") as out:
            out.write(self._rng.randbytes(self._rng.randrange(1, 10_000)))

    def _overwrite(self, file: Path) -> None:
        self._copy = file.read_bytes()
        self._change(file, 0, self._rng.randbytes(file.stat().st_size))

    def _put_back(self, file: Path) -> None:
        """As it was at some time: whole then, and in the way of what was written since."""
        if self._copy:
            self._change(file, 0, self._copy)

    def _swap(self, file: Path) -> None:
        other = self._rng.choice([entry for entry in sorted(self._path.glob("*")) if entry.is_file()])
        content = file.read_bytes()
        self._change(file, 0, other.read_bytes())
        self._change(other, 0, content)

    def _remove(self, file: Path) -> None:
        file.unlink()

    def _replace(self, file: Path) -> None:
        new = file.with_name("new")
        new.write_bytes(self._rng.randbytes(5000))
        new.replace(file)

    def _obstruct(self, file: Path) -> None:
        file.unlink()
        file.mkdir()
        self._obstacle = file

    def _forbid(self, file: Path) -> None:
        file.chmod(self._rng.choice((0o000, 0o444, 0o644)))

    def _remove_folder(self, _file: Path) -> None:
        shutil.rmtree(self._path)


@_quietly()
def _damage_store(campaign: Campaign) -> None:
    path = campaign.folder / "store"
    damage = _Damage(path, campaign.rng)
    with _beside(functools.partial(_embed_until, path=path, may_refuse=True), 2, campaign.tally):
        for _ in range(campaign.count):
            # Files vanish and change under the damage too: then it is for the next one.
            with contextlib.suppress(OSError, IndexError):
                campaign.tally[damage.once()] += 1
            time.sleep(campaign.rng.choice((0.0, 0.002, 0.02)))
    damage.mend()
    with rf.CachedEmbedder(Model(dim=_DIM), 0, path) as cached:
        _check_that_it_works(cached, campaign.rng)


@_quietly()
def _kill_recovery(campaign: Campaign) -> None:
    path = campaign.folder / "store"
    damage = _Damage(path, campaign.rng)
    _write(path, 0)
    whole_s = duration_s(lambda: _write(path, 0))
    for number in range(campaign.count):
        with contextlib.suppress(OSError, IndexError):
            campaign.tally[damage.once()] += 1
        damage.mend()
        delay_s = random_delay_s(campaign.rng, whole_s / 4)
        campaign.tally["killed in time"] += killed(functools.partial(_write, path, number), delay_s)
        with rf.CachedEmbedder(Model(dim=_DIM), 0, path) as cached:
            _check_that_it_works(cached, campaign.rng)


@_quietly()
def _without_room(campaign: Campaign) -> None:
    disk = campaign.folder / "disk"
    disk.mkdir()
    has_disk = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True
    ).returncode  # fmt: skip
    places = [campaign.folder, disk] if has_disk else [campaign.folder]
    try:
        for _ in range(campaign.count):
            place, seed = campaign.rng.choice(places), campaign.rng.randrange(1 << 30)
            campaign.tally["on a disk of 300 kB" if place == disk else "with limits"] += 1
            if campaign.rng.random() < 0.1:
                shutil.rmtree(place / "store", ignore_errors=True)
            work = functools.partial(_write_without_room, place / "store", seed, has_limits=place != disk)
            killed(work, campaign.rng.choice((0.01, _LONGEST_S, _LONGEST_S)))
            if place != disk:
                with rf.CachedEmbedder(Model(dim=_DIM), 0, place / "store") as cached:
                    _check(cached, campaign.rng)
    finally:
        if has_disk:
            subprocess.run(["umount", disk], check=True)


def _write_without_room(path: Path, seed: int, *, has_limits: bool) -> None:
    rng = random.Random(seed)
    if has_limits:
        kind = rng.choice((resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE))
        used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        most = rng.randrange(400_000) if kind == resource.RLIMIT_FSIZE else used + rng.randrange(8)
        resource.setrlimit(kind, (most, most))
    with contextlib.suppress(rf.EmbedderUnavailableError):
        _write(path, seed)


# --- routers that are mapped

_ROWS: Final = 6_000
_QUERIES: Final = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)


def _router(precision: str, seed: int, rows: int = _ROWS) -> SimilarityWeightedRouter:
    vectors = np.random.default_rng(seed).normal(size=(rows, _QUERIES.shape[1])).astype(np.float32)
    a, b, winner = battles(rows)
    return SimilarityWeightedRouter.build(
        vectors, a, b, winner, strong_model=MODELS[0], weak_model=MODELS[1], num_tiers=4, precision=precision,
        embedder=None,
    )  # fmt: skip


def _score_until_found(path: Path, ready: int) -> None:
    """Score until the change of a file is named. Raises where other win rates come first, or nothing is found."""
    router = rf.load_router(path)
    assert isinstance(router, SimilarityWeightedRouter)
    expected = router.win_rates_from_embeddings(_QUERIES)
    os.write(ready, b"1")
    until_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < until_s:
        try:
            found = router.win_rates_from_embeddings(_QUERIES)
        except rf.ArtifactIntegrityError as error:
            assert "was changed in place" in str(error)  # noqa: PT017 - no test of pytest's
            return
        assert np.array_equal(found, expected), "other win rates than those of the router that was loaded"
    raise AssertionError("a file was changed, and nobody noticed")


def _overwrite_routers(campaign: Campaign) -> None:
    rng = campaign.rng
    precisions = ("float32", "int8", "moments")
    for precision in precisions:
        _router(precision, 1).save(campaign.folder / precision)
        _router(precision, 2).save(campaign.folder / f"{precision} other")
        _router(precision, 3, _ROWS // 3).save(campaign.folder / f"{precision} shorter")
    path = campaign.folder / "live"
    for _ in range(campaign.count):
        precision = rng.choice(precisions)
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(campaign.folder / precision, path)
        files = sorted(path.glob("*.safetensors"))
        mapped = [file for file in files if file.name != "weights.safetensors"]
        for file in files:  # so that no change comes within one tick of the clock that files are stamped with
            os.utime(file, (1_700_000_000, 1_700_000_000))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.disable()  # an end by SIGBUS is counted: nobody needs its traceback
            _run_child(lambda: _score_until_found(path, write) or {}, write)  # noqa: B023 - runs at once
        os.close(write)
        assert os.read(read, 1) == b"1", "the router was not loaded"
        time.sleep(rng.uniform(0.0, 0.003))
        kind = rng.choice(("cp of another router", "cp of a shorter one", "cut off", "bytes changed"))
        file = rng.choice(mapped)
        if kind.startswith("cp"):
            source = campaign.folder / f"{precision} {'other' if kind.endswith('another router') else 'shorter'}"
            for name in sorted(source.iterdir()):
                shutil.copyfile(name, path / name.name)
        elif kind == "cut off":
            os.truncate(file, rng.randrange(file.stat().st_size))
        else:
            with file.open("r+b") as out:
                out.seek(rng.randrange(4096, file.stat().st_size))
                out.write(rng.randbytes(1))
        campaign.tally[kind] += 1
        fault = _fault(child)
        os.close(read)
        if fault.endswith("SIGBUS") and kind != "bytes changed":
            campaign.tally["ended by SIGBUS, as the file was cut off within a scan"] += 1
        else:
            assert not fault, f"{kind}: the process that scored {fault}"


# --- graphs that were optimized and kept


def _table() -> tuple[bytes, np.ndarray]:
    """A graph that looks up rows of a table, which ONNX Runtime maps, and the table."""
    from onnx import TensorProto, helper, numpy_helper

    rows = np.random.default_rng(5).normal(size=(2000, 16)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", rows.shape[1]])],
        [numpy_helper.from_array(rows, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), rows


def _look_up(folder: Path, model: bytes, rows: np.ndarray, ready: int, live_s: float) -> None:
    """Open the graph, and run it for so long, or until a change is named."""
    from routellm_fast.errors import OnnxModelError
    from routellm_fast.onnx import OnnxSession

    ids = np.arange(len(rows), dtype=np.int64)
    session = OnnxSession(model, device="cpu", threads=1, optimized_cache=folder)
    os.write(ready, b"1")
    until_s = time.monotonic() + live_s
    while True:
        try:
            found = session.run({"x": ids})["y"]
        except OnnxModelError as error:
            assert "was changed in place" in str(error)  # noqa: PT017 - no test of pytest's
            return
        assert np.array_equal(found, rows), "other numbers than the graph's"
        if time.monotonic() > until_s:
            return


@_quietly("routellm_fast.onnx")
def _damage_graphs(campaign: Campaign) -> None:
    import onnxruntime  # noqa: F401 - once, and not in each child

    model, rows = _table()
    folder = campaign.folder / "graphs"
    for _ in range(campaign.count):
        kept = sorted(folder.glob("*")) if folder.is_dir() else []
        damage = _Damage(kept[0] if kept else folder, campaign.rng)
        is_live = campaign.rng.random() < 0.5
        kind = ""
        if not is_live:
            with contextlib.suppress(OSError, IndexError):
                kind = damage.once()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.disable()  # an end by SIGBUS is counted: nobody needs its traceback
            live_s = 0.03 if is_live else 0.0
            _run_child(lambda: _look_up(folder, model, rows, write, live_s) or {}, write)  # noqa: B023 - runs at once
        os.close(write)
        assert os.read(read, 1) == b"1", f"{kind}: the graph was not opened"
        if is_live:
            time.sleep(campaign.rng.uniform(0.0, 0.02))
            with contextlib.suppress(OSError, IndexError):
                kind = damage.once()
        fault = _fault(child)
        os.close(read)
        damage.mend()
        campaign.tally[kind] += 1
        campaign.tally["while a process runs the graph"] += is_live
        if fault.endswith("SIGBUS") and is_live and kind == "damage by cut":
            campaign.tally["ended by SIGBUS, as the file was cut off within a run"] += 1
        else:
            assert not fault, f"{kind}: the process that ran the graph {fault}"


ATTACKS = [
    Attack(
        name="the store of embeddings, under kills",
        tried="a process that writes to the store is killed at a random moment, while two threads of another use it.",
        held="the store opens at once, and every vector that had been stored is there with the same bits.",
        unit="kills",
        whole=1000,
        brief=12,
        run=_kill_writers,
    ),
    Attack(
        name="the store of embeddings, under damage",
        tried="a file of the store is changed, cut off, removed, replaced or forbidden, while four threads of two "
        "processes use it.",
        held="every vector has the right bits; no call fails, hangs, or ends its process; the store works at the end.",
        unit="damages",
        whole=4000,
        brief=60,
        run=_damage_store,
    ),
    Attack(
        name="the store of embeddings, killed while it recovers",
        tried="the store is damaged at rest, and the process that opens it next is killed at a random moment.",
        held="the process after that gets the right vectors, and a store that works.",
        unit="kills",
        whole=1000,
        brief=12,
        run=_kill_recovery,
    ),
    Attack(
        name="the store of embeddings, without room",
        tried="a process with a limit on the size of files or on open files, or on a full disk, uses the store, and is "
        "killed at times.",
        held="it gets the right vectors, or an error that names the folder when it opens it; the next process can use "
        "the store.",
        unit="processes",
        whole=600,
        brief=12,
        run=_without_room,
    ),
    Attack(
        name="routers that are overwritten in place",
        tried="files of a router are overwritten by cp, cut off or changed by a byte, while a process scores without "
        "pause.",
        held="each win rate has the bits of the router that was loaded, until an error names the file; the process may "
        "end by SIGBUS only where a file was cut off within a scan, as the documents say.",
        unit="changes",
        whole=1000,
        brief=12,
        run=_overwrite_routers,
    ),
    Attack(
        name="graphs that ONNX Runtime optimized and that were kept",
        tried="a file of a kept graph is changed, cut off, removed or replaced, at rest or while a process runs the "
        "graph.",
        held="each number has the bits that the graph gives; the graph is opened, or made again, or an error names the "
        "file; the process may end by SIGBUS only where a file was cut off within a run.",
        unit="damages",
        whole=500,
        brief=8,
        run=_damage_graphs,
    ),
]
