"""Intercept every call that changes a workspace's files, and make one of them fail.

Python tells an audit hook of each open, rename, link, removal and creation of a folder, whoever makes the call and by
whatever name it was imported (https://docs.python.org/3/library/audit_events.html), just before it is made. It
does not cover fsync, so `os.fsync` and `os.fdatasync` are replaced. Forked processes inherit both.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEEDS_SPACE = ("open", "mkdir", "link", "symlink", "fsync")
"""Calls that fail on a full disk; files can still be renamed and removed."""


@dataclass(frozen=True)
class Point:
    """One call, identified by its kind with the pattern of its path, and by the number of such calls before it."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.number}"


def kind_of(call: str, path: str) -> str:
    """Return `rename dataset.zarr/…/zarr.json`, without numbers, random digits and the folders between."""
    path = re.sub(r"[0-9a-f]{32}|(?<=_)[0-9a-f]{8}(?=_)|[0-9a-f]{8}-\d+-\d+(?=\.partial)", "*", path)
    parts = Path(re.sub(r"\d+", "#", path)).parts
    return f"{call} {'/'.join(parts if len(parts) <= 3 else (*parts[:2], '…', parts[-1]))}"


class Injector:
    """Calls `visit` just before each call that changes a file under `root`; `visit` may end the process or raise."""

    def __init__(self, root: Path, counts: Path, visit: Callable[[Point, str], None]) -> None:
        """`counts` is a file in which this process and its children count the points."""
        self.root, self.counts, self.visit = f"{root}/", counts, visit
        self._here = threading.local()
        self._one_at_a_time = threading.Lock()

    def arm(self) -> None:
        """Begin to intercept calls, which cannot be undone in this process."""
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._before(name, getattr(os, name)))
        sys.addaudithook(self._audit)

    def _before(self, name: str, original: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: Any) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self._meet("fsync", f"/proc/self/fd/{number}", follow=True)
            original(descriptor)

        return call

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and flags & WRITING and not flags & os.O_DIRECTORY:
                self._meet("open", path)
        elif event == "os.rename":
            source, target, _, folder = arguments
            self._meet("rename", target, folder) or self._meet("rename", source)
        elif event in ("os.link", "os.symlink"):
            self._meet(event[3:], arguments[1], arguments[-1])
        elif event in ("os.remove", "os.rmdir"):
            self._meet(event[3:], *arguments, there=True)
        elif event == "os.mkdir":
            self._meet("mkdir", arguments[0], arguments[2], there=False)
        elif event == "os.truncate":
            self._meet("truncate", arguments[0])

    def _meet(self, call: str, path: Any, folder: int = -1, *, follow: bool = False, there: bool | None = None) -> bool:
        """Whether the path lies in the workspace. A call that changes nothing, as `there` tells, is no point."""
        if getattr(self._here, "inside", False):
            return False
        self._here.inside = True
        try:
            text = os.fsdecode(path)
            if folder != -1:
                text = f"{os.readlink(f'/proc/self/fd/{folder}')}/{text}"
            text = os.readlink(text) if follow else os.path.abspath(text)
            if not f"{text}/".startswith(self.root):
                return False
            if there is not None and os.path.lexists(text) != there:
                return True
            inner = text[len(self.root) :] or "."
            with self._one_at_a_time:
                self.visit(self._count(kind_of(call, inner)), inner)
            return True
        finally:
            self._here.inside = False

    def _count(self, kind: str) -> Point:
        line = f"{kind}\n".encode()
        descriptor = os.open(self.counts, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            number = (b"\n" + os.pread(descriptor, 1 << 24, 0)).count(b"\n" + line)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return Point(kind, number)


def failing(point: Point, number: int) -> Callable[[Point, str], None]:
    """Return a `visit` that fails with this error at the point; with ENOSPC later calls that need space fail too."""
    full = False

    def visit(met: Point, path: str) -> None:
        nonlocal full
        if met == point or (full and met.kind.split()[0] in NEEDS_SPACE):
            full = number == errno.ENOSPC
            raise OSError(number, os.strerror(number), path)

    return visit


def signalled(point: Point, number: int) -> Callable[[Point, str], None]:
    """Return a `visit` that sends a signal to the process group at this point, as when a service is stopped."""

    def visit(met: Point, path: str) -> None:
        if met == point:
            os.killpg(0, number)

    return visit
