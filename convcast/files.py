"""Files that are whole or absent, and the few questions every room asks of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convcast.errors import DamagedFileError, LockedError

PARTIAL = ".partial"
"""Suffix of a file that is being written; any that a killed run left behind may be deleted."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` at the end of the block, whole, or not at all.

    The data reach the disk before the name does, so that not even a power cut leaves a short file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises DamagedFileError where the file is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{path} is not readable JSON ({error})", advice=f"delete {path} and rerun") from error


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Add one JSON line, stamped with the time; runs that add to the same file take turns, so no two share a line.

    Where the disk fills within it, it raises OSError, and the half that is there swallows no later line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    line = (json.dumps(stamp | entry, default=str) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # or another run's line, half written, would look like a torn one
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk or a power cut left a line torn
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


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
    doomed = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return 0
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

    The operating system drops the lock of a process that dies, so a stale one never needs to be removed.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=patience):
            yield
    except Timeout:
        raise LockedError(f"another run is {what} ({path} is locked)", advice="wait for it to end") from None
