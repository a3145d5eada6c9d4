"""Write files and folders atomically and durably, lock them, and clean up after killed runs."""

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
"""Age in seconds after which a partial file of an unknown process or another machine counts as left behind."""
HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
"""Identifier of this machine in the names of partial files, since process numbers are valid on one machine only."""
_MADE_BY = re.compile(rf"\.([0-9a-f]{{8}})-(\d{{1,9}})-\d+{re.escape(PARTIAL)}$")
_numbers = itertools.count()
MAX_JSON_BYTES = 64 << 20
"""Maximum size of a JSON file that is read, in bytes, since a damaged file may be larger than the memory."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which atomically becomes the file `path` at the end of the block.

    The data are synced before the rename, and the rename before the block ends: a power cut within the block leaves
    the old file or the new one, and after the block the new one.
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
    """Yield an empty temporary folder, which becomes the folder `path` at the end of the block.

    Its content is synced before the rename. An existing folder is replaced, and for an instant there is none; without
    `replace` the existing folder is kept, as the work of another process that was faster.
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
    """Make a folder and its parents, and sync them so that they survive a power cut."""
    lacking = []
    while not path.is_dir():
        lacking.append(path)
        path = path.parent
    for folder in reversed(lacking):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sweep(folder: Path, *, recursive: bool = True, alone: bool = False, shared: bool = False) -> int:
    """Delete the partial files and folders that killed runs left in a folder, and return their number.

    Args:
        folder: Folder to clean.
        recursive: Whether to clean the folders in it too.
        alone: Whether the caller holds the lock of all writers; otherwise files of running processes stay.
        shared: Whether other programs may have `.partial` files there; only those named by this module are deleted.
    """
    partial = (path for path in _partial(folder, recursive) if not shared or _MADE_BY.search(path.name))
    return sum(_delete(path) for path in partial if alone or _is_left_over(path))


def _partial(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the partial files and folders in `folder`, which other processes may be changing."""
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
    """Return whether the process that had this number at that time still runs; the number may have been reused."""
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
    """A unique path beside `path` whose name contains the machine and the process number."""
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{next(_numbers)}{PARTIAL}")


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that files made, renamed or deleted in it are on the disk."""
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
    """Write a file atomically."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedFileError: The file is not JSON, or larger than any that convcast writes.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DamagedFileError(
            f"{path} is not readable JSON ({error})", advice=f"rename {path}, and run the same command again"
        ) from error


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from an untrusted source.

    Raises:
        ValueError: The text is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Append one JSON line to a file, durably and with the time."""
    append_lines(path, [entry])


def append_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Append JSON lines with the time to a file. A lock keeps the lines of concurrent runs apart.

    The lines are on the disk when the function returns. A line that was cut short, by a full disk for example, is ended
    before the next one is written.

    Raises:
        OSError: The disk is full, for example.
        SettingsError: The file system has no locks.
    """
    make_folder(path.parent)
    stamp = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    line = "".join(json.dumps(stamp | entry, default=str) + "\n" for entry in entries).encode()
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # otherwise another run's unfinished line would look truncated
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise _without_locks(path, error) from error
            raise
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # truncated by a full disk or a power cut
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(path: Path) -> list[int]:
    """Return the size (bytes) and modification time (ns) of a file, to detect changes without reading it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def folder_bytes(folder: Path) -> int:
    """Total size of the files under a folder, in bytes; other processes may be changing them."""
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
    """Delete a file or folder, renaming it first so that it disappears at once.

    Returns:
        Its size in bytes, or 0 if it does not exist.
    """
    doomed = _temporary(path)
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return 0
    sync_folder(path.parent)  # otherwise a power cut could restore the name while the content is partly deleted
    if doomed.is_dir():
        size = folder_bytes(doomed)
        shutil.rmtree(doomed)
    else:
        size = doomed.stat().st_size
        doomed.unlink()
    return size


@contextmanager
def lock(path: Path, what: str, *, patience: float = 0) -> Iterator[None]:
    """Hold the lock file at `path` for the length of the block.

    The operating system releases the lock of a process that dies, so a stale lock never needs to be removed.

    Args:
        path: Lock file.
        what: What the holder is doing, for the error message ("fetching").
        patience: Seconds to wait for another run to release the lock.

    Raises:
        LockedError: Another run holds the lock.
        SettingsError: The file system has no locks, or `path` is a link or a folder.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    file_lock = FileLock(path, timeout=patience, fallback_to_soft=False)
    try:
        file_lock.acquire()
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
        file_lock.release()


def _without_locks(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the file system of {path} cannot lock files ({error.strerror})",
        advice="keep the workspace on another file system (--workspace)",
    )
