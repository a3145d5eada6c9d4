"""The dataset on disk: a Zarr v3 group that stays consistent if a writer is killed at any time.

    data        int16 (time, variable, y, x), on the lattice 1/scale of each variable, one file for each hour
    status      uint8 (time,), one file: the commit record, written last; only hours that are ok here exist
    time        int64 (time,), hours since EPOCH
    static      float32 (static, y, x): terrain height (m), land mask
    histograms/values      uint32 (time, variable, bin): counts of the stored integers
    histograms/tendencies  uint32 (time, variable, bin): counts of the transformed change from the hour before
    status/verdicts.jsonl  reasons for the status: one line for each hour and attempt; the last one counts

The index of an hour is its distance from EPOCH, so that earlier hours can be added at any time; absent hours take no
space. Arrays grow by a year at a time, `status` last.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from convcast import stores
from convcast.conventions import FILL, pack, unpack
from convcast.dataset.layout import (
    BINS,
    ELSEWHERE,
    EPOCH,
    HOURLY,
    MEND,
    MEND_HOUR,
    TENDENCY_SCALE,
    DatasetDescription,
    HourStatus,
    index,
    layout,
    open_described,
    open_part,
    read_verdicts,
    stored_hours,
    whole_years,
)
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import append_lines, signature, sweep, whole_folder
from convcast.grid import Grid
from convcast.notation import HOUR, Hour, Hours
from convcast.variables import Variable


class Store:
    """The arrays of one dataset, opened for reading, or for reading and writing."""

    def __init__(self, path: Path, group: zarr.Group, description: DatasetDescription) -> None:
        """Open the arrays.

        Args:
            path: Path of the dataset.
            group: The group of the dataset.
            description: Fields and grid of the dataset.

        Raises:
            DamagedFileError: An array is lost or damaged, or has another layout.
        """
        self.path = path
        self.description = description
        self._group = group
        self._status = open_part(group, "status", description, path).with_config({"write_empty_chunks": True})
        self._data, self._values, self._tendencies = (open_part(group, name, description, path) for name in HOURLY)
        self._recent: dict[Hour, NDArray[np.int16]] = {}

    @classmethod
    def open(cls, path: Path, *, writing: bool = False) -> Store:
        """Open the dataset at `path`.

        Raises:
            SettingsError: There is no dataset at `path`.
            DamagedFileError: The store is damaged or is not a convcast dataset.
        """
        if not path.exists():
            raise SettingsError(f"there is no dataset at {path}", advice="run `convcast preprocess`")
        group, description = open_described(path, writing=writing)
        return cls(path, group, description)

    @classmethod
    def create(
        cls, path: Path, description: DatasetDescription, static: NDArray[np.float32], *, archived: Grid | None = None
    ) -> Store:
        """Create an empty dataset, which appears at `path` only when it is complete.

        Args:
            path: Where to create the Zarr store.
            description: Fields, grid and kind of the dataset.
            static: Terrain height (m) and land mask, (2, y, x).
            archived: Grid of the archive's files, from which the dataset is cropped; by default the dataset's own.
        """
        sweep(path.parent, recursive=False)
        with whole_folder(path) as unfinished:
            group = zarr.open_group(unfinished, mode="w", zarr_format=3)
            for name, how in layout(description).items():
                group.create_array(name, **how)
            group.attrs.update(
                description.to_attributes() | {"archived_grid": (archived or description.grid).to_dict()}
            )
            store = cls(unfinished, group, description)
            store.write_static(static)
            store.reserve(EPOCH)
            # The file of `status` exists from the beginning, so that its absence always means that it was lost.
            store._status[:] = HourStatus.ABSENT
        return cls.open(path, writing=True)

    @property
    def static(self) -> NDArray[np.float32]:
        """Terrain height (m) and land mask, (2, y, x)."""
        static = open_part(self._group, "static", self.description, self.path)
        if not (self.path / "static" / "c" / "0" / "0" / "0").is_file():
            raise DamagedFileError(f"{self.path} has lost its static fields", advice=MEND)
        return np.asarray(self._checked(static, slice(None)), np.float32)

    @property
    def archived_grid(self) -> Grid:
        """Grid of the archive's files, of which the dataset may cover a part."""
        try:
            return Grid.from_dict(dict(self._group.attrs)["archived_grid"])
        except (KeyError, ValueError) as error:
            raise DamagedFileError(
                f"the attributes of {self.path} are damaged ({error!r})", advice=ELSEWHERE.format(path=self.path)
            ) from error

    def read_status(self) -> tuple[Hours, NDArray[np.uint8]]:
        """Return every hour from the first to the last with a known status, and its status.

        Raises:
            DamagedFileError: The file of `status` is damaged or lost.
        """
        if self.length and not (self.path / "status" / "c" / "0").is_file():
            raise DamagedFileError(f"{self.path} has lost the status of its hours", advice=MEND)
        status = np.asarray(self._checked(self._status, slice(None)), np.uint8)
        known = np.flatnonzero(status)
        first, last = (known[0], known[-1] + 1) if known.size else (0, 0)
        return EPOCH + np.arange(first, last) * HOUR, status[first:last]

    def read(
        self, first: Hour, count: int, rows: slice, columns: slice, variables: slice = slice(None)
    ) -> NDArray[np.int16]:
        """Read the stored integers of consecutive hours, whatever their status.

        Args:
            first: The first hour.
            count: Number of hours.
            rows: Rows of the grid.
            columns: Columns of the grid.
            variables: Indices of the variables.

        Returns:
            int16, (time, variable, y, x).

        Raises:
            DamagedFileError: A file fails its checksum.
        """
        start = index(first)
        part = slice(start, start + count), variables, rows, columns
        return np.asarray(self._checked(self._data, part, first), np.int16)

    def signature(self, valid: Hour) -> list[int]:
        """Return the signature (convcast.files.signature) of the file of an hour's fields.

        Raises:
            DamagedFileError: The file is lost.
        """
        return signature(self._file(self._data, valid))

    def chunk_signatures(self, valid: Hour) -> list[list[int]]:
        """Return the signatures of an hour's files of fields and histogram; raises DamagedFileError if one is lost."""
        return [signature(self._file(array, valid)) for array in (self._data, self._values)]

    def is_whole(self, valid: Hour, known: list[list[int]] | None, *, read: bool = False) -> bool:
        """Check whether the fields and the histogram of an hour can be read.

        Args:
            valid: The hour.
            known: Signatures of its files when it was committed. Files that still have them are not read
                and count as whole; without known signatures, the same holds for files that are not empty.
            read: Read the files in any case.
        """
        try:
            signatures = self.chunk_signatures(valid)
            if not read and (signatures == known if known is not None else all(size for size, _ in signatures)):
                return True
            self.read_histogram(valid)
            return bool((self.read(valid, 1, slice(None), slice(None)) != FILL).any())
        except DamagedFileError:
            return False

    def has_tendencies(self, valid: Hour, *, read: bool = False) -> bool:
        """Check whether the histogram of changes from the hour before exists (with `read`: can be read)."""
        try:
            if read:
                self.read_tendencies(valid)
            return self._file(self._tendencies, valid).stat().st_size > 0
        except DamagedFileError:
            return False

    def _file(self, array: zarr.Array, valid: Hour) -> Path:
        """Return the file of an hour's chunk or shard; raises DamagedFileError if it is lost."""
        file = self.path / array.path / array.metadata.encode_chunk_key((index(valid), *[0] * (array.ndim - 1)))
        if not file.is_file():
            raise DamagedFileError(f"{self.path} has lost its values of {valid}", advice=MEND_HOUR)
        return file

    def unpack(self, stored: NDArray[np.int16]) -> NDArray[np.float32]:
        """Convert stored integers (..., variable, y, x) to physical values, float32, NaN if missing."""
        values = np.empty(stored.shape, np.float32)
        for i, variable in enumerate(self.description.variables):
            values[..., i, :, :] = unpack(variable, stored[..., i, :, :])
        return values

    def read_histogram(self, valid: Hour) -> NDArray[np.uint32]:
        """Read the counts of an hour's stored integers, (variable, bin); bin 0 counts missing values."""
        self._file(self._values, valid)
        return np.asarray(self._checked(self._values, index(valid), valid), np.uint32)

    def read_tendencies(self, valid: Hour) -> NDArray[np.uint32]:
        """Read counts of the transformed change from the hour before, (variable, bin), in steps of 1/TENDENCY_SCALE."""
        self._file(self._tendencies, valid)
        return np.asarray(self._checked(self._tendencies, index(valid), valid), np.uint32)

    def read_verdicts(self) -> dict[Hour, dict[str, Any]]:
        """Read the last verdict on each hour; lines truncated by a power failure are skipped."""
        verdicts: dict[Hour, dict[str, Any]] = {}
        for hours, verdict in read_verdicts(self._verdicts, "valid"):
            verdicts |= dict.fromkeys(hours, verdict)
        return verdicts

    @property
    def _verdicts(self) -> Path:
        return self.path / "status" / "verdicts.jsonl"

    @property
    def length(self) -> int:
        """Length of the arrays, in hours from EPOCH."""
        return int(self._status.shape[0])

    def reserve(self, valid: Hour) -> None:
        """Extend the arrays to include this hour; must be called before several processes write.

        `status` is extended last, because the other arrays are read where it says ok.
        """
        if self.length > index(valid):
            return
        length = whole_years(index(valid) + 1)
        self._lengthen(length)
        self._write_times(length)
        self._status.resize((length,))

    def _lengthen(self, length: int) -> None:
        for array in (self._data, self._values, self._tendencies):
            if array.shape[0] < length:
                array.resize((length, *array.shape[1:]))

    def _write_times(self, length: int) -> None:
        time = open_part(self._group, "time", self.description, self.path)
        time.resize((length,))
        time[:] = np.arange(length)

    def write_hour(self, valid: Hour, values: NDArray[np.float32]) -> None:
        """Write the fields (variable, y, x) of an hour and their histogram; `write_status` then commits the hour.

        Args:
            valid: Valid time.
            values: Fields in GRIB units, NaN where missing.
        """
        self.reserve(valid)
        stored = np.stack([pack(v, field) for v, field in zip(self.description.variables, values, strict=True)])
        self._data[index(valid)] = stored
        self._values[index(valid)] = np.stack([_count(field) for field in stored])
        self._recent = dict([*self._recent.items(), (valid, stored)][-2:])

    def write_tendencies(self, valid: Hour) -> None:
        """Write the histogram of changes from the hour before to this one; the fields of both must be written."""
        pairs = zip(self.description.variables, self._written(valid - HOUR), self._written(valid), strict=True)
        self._tendencies[index(valid)] = np.stack([_count_changes(*pair) for pair in pairs])

    def _written(self, valid: Hour) -> NDArray[np.int16]:
        """Return the stored integers (variable, y, x) of an hour; the last two written are in memory."""
        recent = self._recent.get(valid)
        return self.read(valid, 1, slice(None), slice(None))[0] if recent is None else recent

    def write_status(
        self, hours: Sequence[Hour] | Hours, status: HourStatus, verdicts: Sequence[dict[str, Any]]
    ) -> None:
        """Commit these hours: append the verdicts, then write the status."""
        self.reserve(max(hours))
        append_lines(self._verdicts, verdicts)
        where = [index(hour) for hour in hours]
        if len(where) == 1:
            self._status[where[0]] = status
        else:
            everything = np.array(self._status[:], np.uint8)
            everything[where] = status
            self._status[:] = everything

    def restore(self, status: Mapping[Hour, HourStatus]) -> list[str]:
        """Extend all arrays to the longest, and rewrite `status` and `time` if they are lost or damaged.

        Args:
            status: Status of each hour according to the verdicts.

        Returns:
            The names of the rewritten arrays.
        """
        time = open_part(self._group, "time", self.description, self.path)
        known = [index(hour) + 1 for hour in [*status, *self.stored_hours()]]
        lengths = [array.shape[0] for array in (self._data, self._values, self._tendencies, time, self._status)]
        length = whole_years(max([*lengths, *known]))
        self._lengthen(length)
        if self.length < length:
            self._status.resize((length,))
        restored = []
        try:
            self.read_status()
        except DamagedFileError:
            codes = np.zeros(length, np.uint8)
            codes[[index(hour) for hour in status]] = list(status.values())
            self._status[:] = codes
            restored.append("status")
        try:
            right = np.array_equal(self._checked(time, slice(None)), np.arange(length))
        except DamagedFileError:
            right = False
        if not right:
            self._write_times(length)
            restored.append("time")
        return restored

    def write_static(self, static: NDArray[np.float32]) -> None:
        """Write the static fields (static, y, x)."""
        # Static fields over the sea are all zero, and zarr does not write chunks of zeros by default.
        array = open_part(self._group, "static", self.description, self.path)
        array.with_config({"write_empty_chunks": True})[:] = static

    def stored_hours(self) -> Hours:
        """Return the hours whose fields are on the disk, whatever their status."""
        return stored_hours(self.path / self._data.path)

    def prune(self, hours: Sequence[Hour] | Hours) -> None:
        """Delete these hours: commit them as pruned, then delete their files.

        Only the holder of the lock may call this. If it is interrupted, the same call deletes the remaining files.
        """
        reason = "older than retention.dataset_hours"
        verdicts = [{"valid": str(hour), "status": "pruned", "reason": reason} for hour in hours]
        self.write_status(hours, HourStatus.PRUNED, verdicts)
        for hour in hours:
            for array in (self._data, self._values, self._tendencies):
                shutil.rmtree(self.path / array.path / "c" / str(index(hour)), ignore_errors=True)

    def sweep(self) -> None:
        """Remove the temporary files of interrupted runs; only the holder of the lock may call this."""
        sweep(self.path, alone=True)

    def _checked(self, array: zarr.Array, part: Any, first: Hour | None = None) -> Any:
        where = "" if first is None else f" at {first} or soon after"
        again = MEND if first is None else MEND_HOUR
        with stores.readable(f"{self.path / array.path} is damaged{where}", again):
            return array[part]


def _count_changes(variable: Variable, earlier: NDArray[np.int16], later: NDArray[np.int16]) -> NDArray[np.uint32]:
    """Count the transformed change between two fields, (bin,), in steps of 1/TENDENCY_SCALE."""
    forward = variable.transform.forward
    change = forward(unpack(variable, later)) - forward(unpack(variable, earlier))
    steps = np.clip(np.rint(change * np.float32(TENDENCY_SCALE)), FILL + 1, -FILL - 1)
    return _count(np.where(np.isnan(steps), FILL, steps).astype(np.int16))


def _count(stored: NDArray[np.int16]) -> NDArray[np.uint32]:
    """Count each int16 value, (bin,), from -32768 up."""
    unsigned = np.bincount(stored.ravel().view(np.uint16), minlength=BINS)
    return np.roll(unsigned, BINS // 2).astype(np.uint32)
