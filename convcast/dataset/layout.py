"""Layout of the dataset's Zarr group: its attributes, its arrays, and how they are opened and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from convcast import __version__, stores
from convcast.conventions import FILL, field_attributes
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import parse_json
from convcast.grid import Grid, spatial_reference
from convcast.notation import HOUR, Hour, Hours
from convcast.variables import FIELDS, STATIC, Variable, by_lead

FORMAT, FORMAT_VERSION = "convcast dataset", 2
EPOCH = np.datetime64("2014-07-01T00", "h")
"""Hour of index 0: the month in which NOAA's HRRR archive begins."""
YEAR = 366 * 24
"""Number of hours by which the arrays grow at a time."""
TILE = 128
"""Side of a chunk, cells; a random window reads all chunks that it touches."""
BINS = 65536
"""Bins of a histogram: one for each int16."""
TENDENCY_SCALE = 64
"""Bins per unit of a transformed tendency."""
STATUS_CHUNK = 1 << 18
"""Hours in the single file of `status`, thirty years: the maximum length of a dataset."""
MEND = "run `convcast preprocess`, which repairs it"
MEND_HOUR = "run `convcast preprocess --verify`, which takes damaged hours from the archive again"
ELSEWHERE = "rename {path}, and run `convcast preprocess` for a new one"
HOURLY = "data", "histograms/values", "histograms/tendencies"
"""Names of the arrays that have a separate file for each hour."""


class HourStatus(IntEnum):
    """Status of an hour in a dataset."""

    ABSENT = 0
    OK = 1
    GAP = 2
    REJECTED = 3
    PRUNED = 4
    """The hour was ok or rejected, and has been deleted for good."""


@dataclass(frozen=True)
class DatasetDescription:
    """Properties that all hours of a dataset share."""

    variables: tuple[Variable, ...]
    grid: Grid
    simulated: bool
    analysis_lead: int
    """Lead time of the archived files that serve as analyses, hours."""
    dewpoint: str = "analysis"
    """Source of D2M (DatasetSettings.dewpoint)."""

    @property
    def leads(self) -> dict[int, tuple[Variable, ...]]:
        """The fields that are taken from the files of each lead time (hours)."""
        return by_lead(self.variables, self.analysis_lead, self.dewpoint)

    def to_attributes(self) -> dict[str, Any]:
        """Return the attributes of the Zarr group."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "convcast_version": __version__,
            "source": "convcast's simulated archive" if self.simulated else "NOAA HRRR",
            "fields": [variable.name for variable in self.variables],
            "scale": [variable.scale for variable in self.variables],
            "grid": self.grid.to_dict(),
            "projection": spatial_reference(),
            "simulated": self.simulated,
            "analysis_lead": self.analysis_lead,
            "dewpoint": self.dewpoint,
            "tendency_scale": TENDENCY_SCALE,
            "field_attributes": {variable.name: field_attributes(variable) for variable in self.variables},
        }

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any], path: Path) -> DatasetDescription:
        """Restore a description from the attributes of the group at `path`.

        Raises:
            DamagedFileError: The attributes are damaged, or of another format or version.
        """
        if attributes.get("format") != FORMAT:
            raise DamagedFileError(f"{path} is not a convcast dataset", advice="choose another --workspace")
        if attributes.get("format_version") != FORMAT_VERSION:
            raise DamagedFileError(
                f"{path} has format version {attributes.get('format_version')}, this convcast reads {FORMAT_VERSION}",
                advice=ELSEWHERE.format(path=path),
            )
        try:
            variables = tuple(FIELDS[name] for name in attributes["fields"])
            if [variable.scale for variable in variables] != list(attributes["scale"]):
                raise DamagedFileError(f"{path} stores its fields on other lattices than this convcast")
            grid, lead = Grid.from_dict(attributes["grid"]), int(attributes["analysis_lead"])
            dewpoint = str(attributes.get("dewpoint", "analysis"))
            return cls(variables, grid, bool(attributes["simulated"]), lead, dewpoint)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DamagedFileError(
                f"the attributes of {path} are damaged ({error!r})", advice=ELSEWHERE.format(path=path)
            ) from error

    def difference(self, other: DatasetDescription) -> str | None:
        """Describe the first difference to `other` as a clause without subject; None if there is none."""
        if self.simulated != other.simulated:
            kinds = {True: "simulated", False: "real"}
            return f"holds {kinds[self.simulated]} weather, the archive {kinds[other.simulated]} weather"
        if self.variables != other.variables:
            names = (" ".join(v.name for v in each.variables) for each in (self, other))
            return "has the fields {}, the settings {}".format(*names)
        if self.analysis_lead != other.analysis_lead:
            return f"has analyses of lead {self.analysis_lead}, the settings {other.analysis_lead}"
        if self.dewpoint != other.dewpoint:
            return f"has dewpoints of {self.dewpoint}, the settings {other.dewpoint}"
        if self.grid != other.grid:
            return f"is on {describe_grid(self.grid)}, the archive and region on {describe_grid(other.grid)}"
        return None


def describe_grid(grid: Grid) -> str:
    """Return the rows and columns of the HRRR grid that `grid` covers, as text."""
    return f"rows {grid.y0}:{grid.y0 + grid.ny}, columns {grid.x0}:{grid.x0 + grid.nx} of the HRRR grid"


def index(valid: Hour) -> int:
    """Return the index of an hour along `time`; raises SettingsError if it is before EPOCH."""
    number = int((valid - EPOCH) / HOUR)
    if number < 0:
        raise SettingsError(f"{valid} is before {EPOCH}, where datasets begin", advice="choose later hours")
    return number


def whole_years(hours: int) -> int:
    """Round a number of hours up to whole years, by which arrays grow."""
    return -(-hours // YEAR) * YEAR


def stored_hours(array: Path) -> Hours:
    """Return the hours (or cycles) for which an array in this folder has files, ascending."""
    indices = [int(folder.name) for folder in (array / "c").glob("*") if folder.name.isdigit()]
    return EPOCH + np.sort(np.array(indices, np.int64)) * HOUR


def read_verdicts(path: Path, first: str) -> Iterator[tuple[Hours, dict[str, Any]]]:
    """Yield the verdicts in a file, oldest first; lines truncated by a power failure are skipped.

    Args:
        path: The file, of one JSON object a line; it may be absent.
        first: Name of the entry with the first hour (or cycle) that a verdict is about; `last` has the last one.

    Yields:
        The hours that a verdict is about, and the verdict.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = parse_json(line)
            start = np.datetime64(entry[first], "h")
            end = np.datetime64(entry.get("last", entry[first]), "h")
            indices = np.arange(index(start), min(index(end) + 1, STATUS_CHUNK))
        except (AttributeError, KeyError, SettingsError, TypeError, ValueError):
            continue
        yield EPOCH + indices * HOUR, entry


def status_of(verdict: Mapping[str, Any]) -> HourStatus:
    """Return the status that a verdict gives; ABSENT if it gives none."""
    return HourStatus.__members__.get(str(verdict.get("status")).upper(), HourStatus.ABSENT)


def open_described(path: Path, *, writing: bool) -> tuple[zarr.Group, DatasetDescription]:
    """Open the group of a dataset and read its description.

    Raises:
        DamagedFileError: The store is damaged or is not a convcast dataset.
    """
    complaint, advice = f"{path} is not a convcast dataset", "choose another --workspace"
    group = stores.open_group(path, writing=writing, complaint=complaint, advice=advice)
    return group, DatasetDescription.from_attributes(dict(group.attrs), path)


def open_part(group: zarr.Group, name: str, description: DatasetDescription, path: Path) -> zarr.Array:
    """Open an array of a dataset and check it against `layout`, except for the length of its first dimension.

    Args:
        group: Group of the dataset.
        name: Name of the array.
        description: Description of the dataset.
        path: Path of the dataset, for messages.

    Raises:
        DamagedFileError: The array is lost or damaged, has another layout, or is longer than STATUS_CHUNK.
    """
    return open_laid_out(group, name, layout(description)[name], path)


def open_laid_out(group: zarr.Group, name: str, expected: Mapping[str, Any], path: Path) -> zarr.Array:
    """Open an array and check it.

    Args:
        group: The group of the dataset.
        name: Name of the array.
        expected: Arguments of `create_array` that the array must have, except for its length.
        path: Path of the dataset, for messages.

    Raises:
        DamagedFileError: The array is lost or damaged, has another layout, or is longer than STATUS_CHUNK.
    """
    array = stores.open_array(group, name, complaint=f"{path} has no array {name}", advice=MEND)
    same = array.dtype == np.dtype(expected["dtype"]) and array.shape[1:] == expected["shape"][1:]
    if not same or array.shape[0] > STATUS_CHUNK or array.chunks != expected["chunks"]:
        raise DamagedFileError(f"{path} has an array {name} of {array.dtype} {array.shape}", advice=MEND)
    return array


def recreate_lost(
    group: zarr.Group, arrays: Mapping[str, Mapping[str, Any]], path: Path, opened: Callable[[str], zarr.Array]
) -> list[str]:
    """Create the lost or damaged arrays again, empty, and return their names.

    Args:
        group: The group of the dataset, open for writing.
        arrays: Arguments of zarr's `create_array` for each array by name.
        path: The dataset's Zarr store.
        opened: Opens an array by name, and raises DamagedFileError where it is lost or damaged.
    """
    lost = []
    for name, how in arrays.items():
        try:
            opened(name)
        except DamagedFileError:
            (path / name / "zarr.json").unlink(missing_ok=True)
            group.create_array(name, **how)
            lost.append(name)
    return lost


def layout(description: DatasetDescription) -> dict[str, dict[str, Any]]:
    """Return the arguments of zarr's `create_array` for each array by name, with a length of no hours."""
    count, (ny, nx) = len(description.variables), description.grid.shape
    small = max(ny, nx) <= TILE
    # Blosc alone does not detect a flipped bit, and would decode other values.
    compressors = [BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()]
    histogram = {
        "shape": (0, count, BINS),
        "dtype": "uint32",
        "chunks": (1, count, BINS),
        "fill_value": 0,
        "dimension_names": ("time", "variable", "bin"),
    }
    since = str(EPOCH).replace("T", " ") + ":00"
    arrays: dict[str, dict[str, Any]] = {
        "data": {
            "shape": (0, count, ny, nx),
            "dtype": "int16",
            "chunks": (1, count, *((ny, nx) if small else (TILE, TILE))),
            "shards": None if small else (1, count, -(-ny // TILE) * TILE, -(-nx // TILE) * TILE),
            "fill_value": FILL,
            "dimension_names": ("time", "variable", "y", "x"),
        },
        "histograms/values": histogram,
        "histograms/tendencies": histogram,
        "static": {
            "shape": (len(STATIC), ny, nx),
            "dtype": "float32",
            "chunks": (len(STATIC), ny, nx),
            "dimension_names": ("static", "y", "x"),
            "attributes": {"names": list(STATIC), "units": [variable.units for variable in STATIC.values()]},
        },
        "time": {
            "shape": (0,),
            "dtype": "int64",
            "chunks": (STATUS_CHUNK,),
            "fill_value": -1,
            "dimension_names": ("time",),
            "attributes": {"units": f"hours since {since}", "calendar": "proleptic_gregorian", "standard_name": "time"},
        },
        "status": {
            "shape": (0,),
            "dtype": "uint8",
            "chunks": (STATUS_CHUNK,),
            "fill_value": int(HourStatus.ABSENT),
            "dimension_names": ("time",),
            "attributes": {
                "flag_values": [int(s) for s in HourStatus],
                "flag_meanings": " ".join(s.name.lower() for s in HourStatus),
            },
        },
    }
    return {name: how | {"compressors": compressors} for name, how in arrays.items()}
