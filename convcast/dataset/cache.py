"""A cache of uncompressed, memory-mapped hours, the fastest source of random training windows.

Each hour is one .npy file of stored integers, int16 (variable, y, x). The file name contains the signature of the
dataset's file, so an hour that was preprocessed again is also unpacked again. Files are renamed into place when
complete, and the folder may be deleted at any time.
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
"""Maximum number of files mapped at once; each uses a file descriptor of the process."""
_unpacking = Lock()


class HourCache:
    """Cache of the hours of one dataset in one folder; an hour is unpacked when it is first read."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store
        sweep(folder, recursive=False)

    def read(self, hours: Sequence[Hour] | Hours, rows: slice, columns: slice) -> NDArray[np.int16]:
        """Read the stored integers of these hours on a sub-grid.

        Args:
            hours: Valid times; each must be in the dataset.
            rows: Rows of the dataset's grid.
            columns: Columns of the dataset's grid.

        Returns:
            int16, (time, variable, y, x).

        Raises:
            DamagedFileError: A file of the dataset is damaged or lost.
        """
        return np.stack([self._hour(hour)[:, rows, columns] for hour in np.asarray(hours, "datetime64[h]")])

    def make_room(self, hours: Hours) -> None:
        """Raise DiskFullError if the hours that are not cached yet do not fit on the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        description = self._store.description
        each = 2 * len(description.variables) * description.grid.ny * description.grid.nx
        new = sum(not self._file(hour).exists() for hour in hours)
        free = shutil.disk_usage(self.folder).free
        if new * each > free:
            raise DiskFullError(
                f"unpacking {new} hours takes {new * each / 1e9:.1f} GB, and {self.folder} has {free / 1e9:.1f}",
                advice="free some space, or run `convcast train --set training.cache=false`",
            )

    def _file(self, valid: Hour) -> Path:
        size, changed = self._store.signature(valid)
        return self.folder / f"{valid}.{size}-{changed}.npy"

    def _hour(self, valid: Hour) -> NDArray[np.int16]:
        file = self._file(valid)
        mapped = _whole(file)
        if mapped is None:
            with _unpacking:
                mapped = _whole(file)  # another thread may have unpacked it in the meantime
                if mapped is None:
                    self._unpack(valid, file)
                    mapped = _map(file)
        return mapped

    def _unpack(self, valid: Hour, file: Path) -> None:
        stored = self._store.read(valid, 1, slice(None), slice(None))[0]
        with whole_file(file) as temporary, open(temporary, "wb") as opened:
            np.save(opened, stored, allow_pickle=False)
        for stale in self.folder.glob(f"{valid}.*.npy"):
            if stale != file:
                stale.unlink(missing_ok=True)


def _whole(file: Path) -> NDArray[np.int16] | None:
    """Map the file, or return None if it is absent or truncated."""
    try:
        return _map(file)
    except (FileNotFoundError, EOFError, ValueError):
        return None


@lru_cache(maxsize=MAPPED)
def _map(file: Path) -> NDArray[np.int16]:
    mapped: NDArray[np.int16] = np.load(file, mmap_mode="r", allow_pickle=False)
    return mapped
