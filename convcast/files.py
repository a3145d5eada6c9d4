"""Files that are whole or absent, and the few questions every room asks of them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convcast.errors import NO_LOCKS, DamagedFileError, LockedError, SettingsError

PARTIAL = ".partial"
"""Suffix of a file or folder that is being written; `sweep` deletes those that a killed run left behind."""
STALE_SECONDS = 3600
"""Seconds after which a partial file without a process number of this machine belongs to a run that was killed."""
HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
"""Stands for this machine in the names of partial files: another one's processes have other numbers."""
_MADE_BY = re.compile(rf"\.([0-9a-f]{{8}})-(\d{{1,9}})-\d+{re.escape(PARTIAL)}$")
_numbers = itertools.count()
MAX_JSON_BYTES = 64 << 20
"""Bytes of a JSON file beyond which it is not read: a file may be larger than the memory."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes the file `path` at the end of the block, whole or not at all.

    The data reach the disk before the name does, and the name before the block ends: a power cut leaves the old file
    or the new one, and after the block the new one.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty temporary folder to fill, which becomes the folder `path` at the end of the block, whole or not.

    All that is in it reaches the disk before its name does. A folder that lies at `path` is replaced, and for an
    instant there is none; without `replace` it is kept, as the work of another process that was faster.
    """
    make_folder(path.parent)
    temporary, old = _temporary(path), _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        _sync_tree(temporary)
        if replace and path.exists():
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            if replace or not path.is_dir():
                raise
        sync_folder(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    lacking = []
    while not path.is_dir():
        lacking.append(path)
        path = path.parent
    for folder in reversed(lacking):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sweep(folder: Path, *, recursive: bool = True, alone: bool = False, shared: bool = False) -> int:
    """Delete the partial files and folders that killed runs left in `folder`; gives their number.

    What a running process may still be writing stays, unless the caller is `alone`, holding the lock of all writers.
    In a `shared` folder other programs may have partial files of their own: only what `whole_file` and `whole_folder`
    named is deleted there.
    """
    found = (path for path in _partial(folder, recursive) if not shared or _MADE_BY.search(path.name))
    return sum(_delete(path) for path in found if alone or _is_left_over(path))


def _partial(folder: Path, recursive: bool) -> Iterator[Path]:
    """The partial files and folders in `folder`, which others may be changing meanwhile."""
    for within, folders, names in os.walk(folder):
        yield from (Path(within, name) for name in [*folders, *names] if name.endswith(PARTIAL))
        folders[:] = [name for name in folders if recursive and not name.endswith(PARTIAL)]


def _is_left_over(path: Path) -> bool:
    try:
        changed = path.lstat().st_mtime
    except FileNotFoundError:
        return False
    made_by = _MADE_BY.search(path.name)
    if made_by is None or made_by[1] != HOST:
        return time.time() - changed > STALE_SECONDS
    return not _was_running(int(made_by[2]), changed)


def _was_running(process: int, when: float) -> bool:
    """Whether the process that had this number at that time still runs; its number may be another's by now."""
    import psutil

    margin = 60  # a file server's clock may be off by some seconds
    try:
        return bool(psutil.Process(process).create_time() < when + margin)
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _delete(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    return True


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process or thread uses, and that tells which process made it."""
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{next(_numbers)}{PARTIAL}")


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk: what was made, renamed or deleted in it."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # some network disks cannot sync folders
            raise


def _sync_tree(folder: Path) -> None:
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(directory) / name)
        sync_folder(Path(directory))


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises DamagedFileError where the file is not JSON, or larger than any that convcast writes."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"{path} is not readable JSON ({error})", advice=f"delete {path} and rerun") from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from anywhere; raises ValueError where it is none, or is nested too deeply to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Add one JSON line as `append_lines` does."""
    append_lines(path, [entry])


def append_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Add JSON lines, stamped with the time; runs that add to the same file take turns, so no two share a line.

    The lines are on the disk when it returns. Where the disk fills within it, it raises OSError, and the half that is
    there swallows no later line.
    """
    make_folder(path.parent)
    stamp = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    line = "".join(json.dumps(stamp | entry, default=str) + "\n" for entry in entries).encode()
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # or another run's line, half written, would look like a torn one
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise _without_locks(path, error) from error
            raise
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk or a power cut left a line torn
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(path: Path) -> list[int]:
    """Bytes and time (ns): tells a file from a later one of the same name without reading it."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def folder_bytes(folder: Path) -> int:
    """What the files under a folder hold, which others may be changing meanwhile."""
    total, pending = 0, [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def discard(path: Path) -> int:
    """Delete a file or folder, which loses its name at once and then its contents; gives its bytes, 0 if it is gone."""
    doomed = _temporary(path)
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return 0
    sync_folder(path.parent)  # or a power cut could give its name back to what is left of it
    if doomed.is_dir():
        size = folder_bytes(doomed)
        shutil.rmtree(doomed)
    else:
        size = doomed.stat().st_size
        doomed.unlink()
    return size


@contextmanager
def lock(path: Path, what: str, *, patience: float = 0) -> Iterator[None]:
    """Hold the lock file at `path`; raises LockedError where another run holds it for more than `patience` seconds.

    Raises SettingsError where the file system has no locks, or where `path` is a link, which is never followed.
    The operating system drops the lock of a process that dies, so a stale one never needs to be removed.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    held = FileLock(path, timeout=patience, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        raise LockedError(f"another run is {what} ({path} is locked)", advice="wait for it to end") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise SettingsError(f"{path} is a link or a folder, and no lock", advice=f"move {path} away") from error
        if error.errno in NO_LOCKS:
            raise _without_locks(path, error) from error
        raise
    try:
        yield
    finally:
        held.release()


def _without_locks(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the file system of {path} cannot lock files ({error.strerror})",
        advice="keep the workspace on another file system (--workspace)",
    )
