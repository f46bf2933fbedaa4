"""What lies in a directory that this package wrote, and is not of this package: carried over when it is replaced.

A file is carried over by a second name for it (a hard link), so that it is at the directory's path all the time; only
where the file system has no links it is copied. Folders are made anew, with their permissions, and filled in this way.
No folder is ever removed with what is in it: the old directory is taken apart entry by entry, and an entry goes only
if this package wrote it or if it is at the directory's path by then.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from routellm_fast import _renames
from routellm_fast.errors import OutputExistsError
from routellm_fast.owned import Owned

_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MOST_TEXT_BYTES: Final = 64 << 20
# How often a directory is looked through for what was put into it meanwhile.
_ROUNDS: Final = 3


class _Identity(NamedTuple):
    """What tells whether an entry is still the same, unchanged."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> _Identity | None:
        """Return the identity of what stands at a path, of a link itself; None where nothing does."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Carried(NamedTuple):
    source: _Identity | None
    made: _Identity | None


Carried = Mapping[str, _Carried]


def carry_over(old: Path, new: Path, owned: Owned) -> Carried:
    """Give a new directory all that an old one holds and this package did not write, and the old one's permissions.

    Args:
        old: The directory that will be replaced. It is not changed.
        new: The directory that will take its place, with all files that this package writes.
        owned: Which files of the old one this package wrote.

    Returns:
        What was carried over, for `take_apart`.

    Raises:
        OutputExistsError: The new directory has a file of the name of what is not this package's.
        OSError: Something cannot be carried over.
    """
    carried: dict[str, _Carried] = {}
    ours = owned.folders()
    made: list[str] = []
    for name, entry in _entries(old):
        source, place = old / name, new / name
        if entry.is_dir(follow_symlinks=False):
            if name not in ours:
                _check_movable(source, name)
                _make_parents(new, name, old)
                _make_folder(place, name, old)
                made.append(name)
        elif name in owned.files:
            continue
        elif name in owned.replaceable and os.path.lexists(place):
            if _has_same_text(source, place):
                place.unlink()
                carried[name] = _link(source, place, name)
        elif os.path.lexists(place):
            raise _in_the_way(old, name)
        else:
            _make_parents(new, name, old)
            with contextlib.suppress(FileNotFoundError):  # somebody removed it just now
                carried[name] = _link(source, place, name)
    for name in sorted(owned.files | owned.replaceable):
        _adopt_file(old / name, new / name)
    for name in reversed(made):  # last: a folder may not be written to with the permissions it gets
        with contextlib.suppress(FileNotFoundError):  # somebody removed it just now
            _adopt_whole(old / name, new / name, name)
    adopt(old, new)
    return carried


def take_apart(old: Path, path: Path, owned: Owned, carried: Carried) -> list[str]:
    """Remove a directory that was replaced: what this package wrote, and what was carried over.

    What is found besides was put there meanwhile, and is moved to where the directory stands now. The directory itself
    goes when it is empty.

    Args:
        old: The directory, where it lies now.
        path: Where the new one stands.
        owned: Which of its files this package wrote.
        carried: What `carry_over` returned; {} if that is not known, after a crash.

    Returns:
        What stays in the old directory, as something else has its name at the path.
    """
    ours = owned.folders()
    for _ in range(_ROUNDS):
        kept: list[str] = []
        folders: list[str] = []
        for name, entry in _entries(old):
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):  # one that may not be written to cannot be emptied
                    if not os.access(old / name, os.W_OK | os.X_OK):
                        (old / name).chmod(0o700)
                folders.append(name)
                if name not in ours and not os.path.lexists(path / name):
                    with contextlib.suppress(OSError):
                        (path / name).mkdir(parents=True)
                        adopt(old / name, path / name)
            elif name != owned.manifest:
                try:
                    gone = name in owned.files or _is_at(old / name, path / name, name, owned, carried)
                    if gone:
                        (old / name).unlink()
                except OSError:
                    gone = not os.path.lexists(old / name)
                if not gone and os.path.lexists(old / name):
                    kept.append(name)
        with contextlib.suppress(OSError):
            for name in reversed(folders):
                with contextlib.suppress(OSError):
                    (old / name).rmdir()
            if owned.manifest and not kept:
                (old / owned.manifest).unlink(missing_ok=True)
            old.rmdir()
        if kept or not os.path.lexists(old):
            return kept
    return sorted(name for name, _ in _entries(old))


def adopt(old: Path, new: Path) -> None:
    """Give a file or folder the permissions of another, and its owner and group where that is permitted."""
    was, now = old.stat(), new.stat()
    for uid, gid in ((was.st_uid, -1), (-1, was.st_gid)):
        if (uid, gid) not in ((now.st_uid, -1), (-1, now.st_gid)):
            with contextlib.suppress(PermissionError):
                os.chown(new, uid, gid)
    with contextlib.suppress(OSError):  # the file system may have none
        for name in os.listxattr(old):
            # What others noted of a file's content may not be true of the new one: only lists of access rights stay.
            if name.startswith("system.posix_acl_") or stat.S_ISDIR(was.st_mode):
                with contextlib.suppress(OSError):
                    os.setxattr(new, name, os.getxattr(old, name))
    new.chmod(stat.S_IMODE(was.st_mode))


def remove_own(folder: Path) -> None:
    """Remove a folder that this process or one before it made for itself, with all that is in it."""
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)  # noqa: PTH101 - os.walk gives text
    shutil.rmtree(folder, ignore_errors=True)


def _entries(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all that a folder holds, by relative path, folders before what is in them. Links are not followed."""
    folders = [""]
    while folders:
        parent = folders.pop()
        try:
            with os.scandir(folder / parent) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:  # somebody removed it just now
            continue
        except OSError as error:
            raise _immovable(parent or ".", error.errno, error.strerror) from error
        for entry in entries:
            name = f"{parent}/{entry.name}" if parent else entry.name
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)


def _is_at(old: Path, place: Path, name: str, owned: Owned, carried: Carried) -> bool:
    """Say whether an entry of an old directory is no longer needed there; one that has no other place is moved first.

    Returns:
        True where the entry may be removed; False where it was moved, or has to stay.
    """
    source, there = _Identity.of(old), _Identity.of(place)
    if source is None:
        return False
    if there is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        _renames.rename_new(old, place)
        return False
    if source[:2] == there[:2]:
        return True
    known = carried.get(name)
    if known is not None and source == known.source:
        return True
    if known is not None and there == known.made:  # replaced between the link and the exchange
        old.replace(place)
        return False
    return name in owned.replaceable or _is_same(old, place)


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() and other.is_symlink():
        return one.readlink() == other.readlink()
    if any(path.is_symlink() or not path.is_file() for path in (one, other)):
        return False
    return filecmp.cmp(one, other, shallow=False)


def _has_same_text(one: Path, other: Path) -> bool:
    """Say whether two files hold the same text as far as it can be read; bytes that are no UTF-8 may differ."""
    try:
        if one.stat().st_size > _MOST_TEXT_BYTES or not one.is_file():
            return False
        return one.read_bytes().decode("utf-8", "replace") == other.read_bytes().decode("utf-8", "replace")
    except OSError:
        return False


def _link(source: Path, place: Path, name: str) -> _Carried:
    was = _Identity.of(source)
    try:
        try:
            os.link(source, place, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS or not (source.is_symlink() or source.is_file()):
                raise
            shutil.copy2(source, place, follow_symlinks=False)
            if not place.is_symlink():
                _adopt_whole(source, place, name)
                with place.open("rb") as file:
                    os.fsync(file.fileno())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _immovable(name, error.errno, error.strerror) from error
    return _Carried(was, _Identity.of(place))


def _check_movable(folder: Path, name: str) -> None:
    """Refuse a folder that could not be taken apart afterwards."""
    status = folder.lstat()
    if status.st_dev != folder.parent.lstat().st_dev:
        raise _immovable(name, errno.EXDEV, "another file system is mounted there")
    if status.st_uid != os.geteuid() and not os.access(folder, os.W_OK | os.X_OK):
        raise _immovable(name, errno.EACCES, "it belongs to another user")


def _make_parents(new: Path, name: str, old: Path) -> None:
    """Make the folders of this package into which others put something."""
    if (new / name).parent.is_dir():
        return
    for parent in reversed(Path(name).parents[:-1]):
        _make_folder(new / parent, os.fspath(parent), old)


def _make_folder(place: Path, name: str, old: Path) -> None:
    try:
        place.mkdir(mode=0o700)
    except FileExistsError as error:
        if place.is_symlink() or not place.is_dir():
            raise _in_the_way(old, name) from error


def _adopt_whole(old: Path, new: Path, name: str) -> None:
    """Give a copy all that the original has: permissions, owner, group and times."""
    adopt(old, new)
    was, now = old.stat(), new.stat()
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        raise _immovable(name, errno.EPERM, "its owner and group cannot be kept")
    os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))


def _adopt_file(old: Path, new: Path) -> None:
    """Let a file that replaces another have its permissions; not one that has a second name elsewhere."""
    try:
        was, now = old.lstat(), new.lstat()
    except OSError:
        return
    if stat.S_ISREG(was.st_mode) and stat.S_ISREG(now.st_mode) and now.st_nlink == 1:
        adopt(old, new)


def _in_the_way(old: Path, name: str) -> OutputExistsError:
    return OutputExistsError(
        f"{old / name} would be replaced, and is none of the files that {old} is known to consist of. Nothing was "
        "changed. Move it away, or choose another path."
    )


def _immovable(name: str, number: int | None, reason: str | None) -> OSError:
    return OSError(
        number or errno.EIO,
        f"{name}, which lies there, cannot be carried over: {reason}. Move it away, or choose another path",
    )
