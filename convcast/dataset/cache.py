"""Hours unpacked into plain files that are mapped into memory: what random windows are read from quickest.

One .npy file an hour, int16 (variable, y, x) as stored. Its name tells what it was made of, so an hour that was
preprocessed again is unpacked again; it appears whole; the folder may be deleted at any time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.store import Store
from convcast.errors import DiskFullError
from convcast.files import sweep, whole_file
from convcast.notation import Hour, Hours

MAPPED = 256
"""Files mapped at a time: each takes one of the process's file descriptors."""
_unpacking = Lock()


class HourCache:
    """The hours of one dataset in a folder of their own; a file is made when its hour is first asked for."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store
        sweep(folder, recursive=False)

    def read(self, hours: Sequence[Hour] | Hours, rows: slice, columns: slice) -> NDArray[np.int16]:
        """Stored integers of these hours, (time, variable, y, x), which must be there.

        Raises DamagedFileError where the dataset's file is damaged or lost.
        """
        return np.stack([self._hour(hour)[:, rows, columns] for hour in np.asarray(hours, "datetime64[h]")])

    def make_room(self, hours: Hours) -> None:
        """Raises DiskFullError, with the figures, where the hours not yet unpacked do not fit on the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        description = self._store.description
        each = 2 * len(description.variables) * description.grid.ny * description.grid.nx
        new = sum(not self._file(hour).exists() for hour in hours)
        free = shutil.disk_usage(self.folder).free
        if new * each > free:
            raise DiskFullError(
                f"unpacking {new} hours takes {new * each / 1e9:.1f} GB, and {self.folder} has {free / 1e9:.1f}",
                advice="free some space, or set training.cache=false",
            )

    def _file(self, valid: Hour) -> Path:
        size, changed = self._store.signature(valid)
        return self.folder / f"{valid}.{size}-{changed}.npy"

    def _hour(self, valid: Hour) -> NDArray[np.int16]:
        file = self._file(valid)
        found = _whole(file)
        if found is None:
            with _unpacking:
                found = _whole(file)  # by another thread, meanwhile
                if found is None:
                    self._unpack(valid, file)
                    found = _map(file)
        return found

    def _unpack(self, valid: Hour, file: Path) -> None:
        stored = self._store.read(valid, 1, slice(None), slice(None))[0]
        with whole_file(file) as temporary, open(temporary, "wb") as opened:
            np.save(opened, stored, allow_pickle=False)
        for stale in self.folder.glob(f"{valid}.*.npy"):
            if stale != file:
                stale.unlink(missing_ok=True)


def _whole(file: Path) -> NDArray[np.int16] | None:
    """The file mapped, or None where it is not there, or cut short by a disk that lost its end."""
    try:
        return _map(file)
    except (FileNotFoundError, EOFError, ValueError):
        return None


@lru_cache(maxsize=MAPPED)
def _map(file: Path) -> NDArray[np.int16]:
    mapped: NDArray[np.int16] = np.load(file, mmap_mode="r", allow_pickle=False)
    return mapped
