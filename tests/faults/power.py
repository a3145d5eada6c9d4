"""Simulated power cuts at any instant, which may lose everything that was not synced.

`Disk` watches one folder. Before each sync, rename, deletion and new folder it records what a power cut would leave.
POSIX promises the data of files that were synced, and the names in folders that were synced; anything else may or may
not have reached the disk, in any order.
"""

from __future__ import annotations

import os
import random
import resource
import stat
import threading
from pathlib import Path

Tree = dict[str, "bytes | Tree"]
HOOKS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "link")


class Disk:
    """Context manager that watches the folder `root`, which must be empty; `states` are what power cuts would leave."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root = root
        self.states: list[Tree] = []
        self.cuts = 0
        self._random = random.Random(seed)
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        self._pins: list[int] = []
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in HOOKS}
        self._seen: set[int] = set()

    def __enter__(self) -> Disk:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65536)), hard))
        self._folders[self.root.stat().st_ino] = {}
        for name in HOOKS:
            setattr(os, name, self._hook(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        self.cut()
        for pin in self._pins:
            os.close(pin)

    def _hook(self, name: str):
        def hooked(*arguments, **named):
            with self._lock:
                self.cut()
                result = self._real[name](*arguments, **named)
                if name == "fsync":
                    self._synced(arguments[0])
                return result

        return hooked

    def _synced(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        # The file stays open so that no other file gets its number; a duplicate would also hold its locks.
        self._pins.append(os.open(f"/proc/self/fd/{descriptor}", os.O_PATH))
        if stat.S_ISDIR(found.st_mode):
            self._folders[found.st_ino] = _listing(descriptor)
        else:
            self._files[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def cut(self) -> None:
        """Record what a power cut now would leave: synced data, with none, all or some of the unsynced names."""
        self.cuts += 1
        current: dict[int, dict[str, tuple[int, bool]]] = {}
        pending = [self.root]
        while pending:
            folder = pending.pop()
            current[folder.stat().st_ino] = _listing(folder)
            pending += [folder / name for name, (_, is_folder) in _listing(folder).items() if is_folder]
        for chance in (0.0, 1.0, 0.5):
            state = self._tree(self.root.stat().st_ino, current, chance)
            digest = hash(_frozen(state))
            if digest not in self._seen:
                self._seen.add(digest)
                self.states.append(state)

    def _tree(self, folder: int, current: dict[int, dict[str, tuple[int, bool]]], chance: float) -> Tree:
        synced = self._folders.get(folder, {})
        names = current.get(folder, synced) if self._random.random() < chance else synced
        return {
            name: self._tree(number, current, chance) if is_folder else self._files.get(number, b"")
            for name, (number, is_folder) in names.items()
        }


def _listing(folder: int | Path) -> dict[str, tuple[int, bool]]:
    with os.scandir(folder) as entries:
        return {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}


def _frozen(tree: Tree) -> tuple:
    return tuple(sorted((n, _frozen(each) if isinstance(each, dict) else hash(each)) for n, each in tree.items()))


def lay_out(tree: Tree, folder: Path) -> None:
    """Write a recorded state into a new folder."""
    folder.mkdir()
    for name, each in tree.items():
        if isinstance(each, dict):
            lay_out(each, folder / name)
        else:
            (folder / name).write_bytes(each)
