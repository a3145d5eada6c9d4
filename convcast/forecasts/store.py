"""Store the members of one initial time in forecasts/<init>.zarr, a Zarr v3 group laid out by convcast.conventions.

The template is written under a temporary name and renamed before any member is written. Each member and lead has its
own files: one for each field, and last its flag in `complete`. An interruption therefore loses only the member that was
being written, and processes that write different members never touch the same file. Readers take the shapes from the
consolidated metadata, a single file, so that they see either the old or the new number of members while it grows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from convcast import conventions, stores
from convcast.errors import DamagedFileError
from convcast.files import lock, sweep, whole_folder
from convcast.forecasts.integrity import attribute_leads, read_flags, start_over_advice
from convcast.grid import Grid
from convcast.notation import Hour, compact
from convcast.variables import FIELDS, Variable

FORMAT, FORMAT_VERSION = "convcast ensemble", 1
NUMBERS = 1024
"""Chunk length of the coordinate `number`."""
FLAGS = ("seed", "solver", "steps", "guidance")
"""Attributes of an ensemble's identity that are options of `convcast sample`."""
READERS = 4
"""Number of threads that read members marked as complete."""
_WARNINGS = RLock()
"""Lock for changes of the warning filters, which are global to the process."""
GROWTH_PATIENCE = 60
"""Maximum time, seconds, to wait for another process that adds members."""


@dataclass(frozen=True)
class ForecastDescription:
    """Properties that all members of an ensemble share."""

    init: Hour
    leads: tuple[int, ...]
    """Lead times, hours, ascending."""
    direct: tuple[int, ...]
    """Leads, hours, that the model forecasts in one step; others are chains of one-hour forecasts."""
    variables: tuple[Variable, ...]
    grid: Grid
    identity: dict[str, Any]
    """Everything that determines a member, by name (model, seed, solver, …): strings, numbers and booleans."""
    information: dict[str, Any]
    """Further global attributes, which do not determine the members."""

    def attributes(self) -> dict[str, Any]:
        """Return the global attributes of the store."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **self.information,
            **self.identity,
            "leads": list(self.leads),
            "fields": " ".join(variable.name for variable in self.variables),
            "grid": _describe(self.grid),
            "init": compact(self.init),
        }


def _describe(grid: Grid) -> str:
    return f"{grid.ny} x {grid.nx} from row {grid.y0}, column {grid.x0}{', periodic' if grid.periodic else ''}"


class EnsembleStore:
    """An ensemble opened for adding members; a member's number is its index along `number`."""

    def __init__(self, path: Path, description: ForecastDescription, group: zarr.Group) -> None:
        """Open the arrays.

        Args:
            path: Path of the store.
            description: The ensemble.
            group: The Zarr group at `path`.

        Raises:
            DamagedFileError: An array is lost or damaged.
        """
        self.path = path
        self.description = description
        self._fields = [_array(group, variable.name, path) for variable in description.variables]
        self._complete = _array(group, "complete", path)
        self._sound: set[tuple[int, int]] = set()

    @classmethod
    def prepare(cls, path: Path, description: ForecastDescription, *, members: int) -> EnsembleStore:
        """Open the ensemble at `path`, created if absent, with room for at least `members` members.

        The stored ensemble may have more leads than `description`, but not fewer, since leads are fixed at creation.

        Args:
            path: Zarr store of the ensemble.
            description: The ensemble that `path` must contain.
            members: Minimum number of members to make room for.

        Raises:
            DamagedFileError: `path` is not a convcast ensemble, or one of another identity; the message names the
                difference.
        """
        if path.is_symlink():
            raise DamagedFileError(
                f"{path} is a link, and members are not written through links", advice=start_over_advice(path)
            )
        if not path.exists():
            _create(path, description, members)
        sweep(path)
        sweep(path.parent, recursive=False)
        group = _open(path, description)
        if _members_seen(path) < members:
            with lock(path / "number" / ".lock", f"adding members to {path}", patience=GROWTH_PATIENCE):
                group = _open(path, description)
                with stores.readable(f"{path} cannot take more members", start_over_advice(path)):
                    _grow(group, path, members)
            group = _open(path, description)
        return cls(path, replace(description, leads=tuple(attribute_leads(dict(group.attrs)))), group)

    def complete(self) -> NDArray[np.bool_]:
        """Read which members and leads are complete now, (member, lead)."""
        flags = read_flags(self._complete)[0]
        return np.asarray(flags == conventions.COMPLETE)

    def missing(self, members: Sequence[int], lead: int) -> list[int]:
        """Return those of `members` that are not complete at this lead (hours), or whose values cannot be read.

        The values of each member marked as complete are read once, which takes far less time than drawing them.
        """
        complete = self.complete()[:, self.description.leads.index(lead)]
        unread = [member for member in members if complete[member] and (member, lead) not in self._sound]
        with ThreadPoolExecutor(READERS) as pool:
            readable = pool.map(lambda member: self._readable(member, lead), unread)
            self._sound.update((member, lead) for member, ok in zip(unread, readable, strict=True) if ok)
        return [member for member in members if (member, lead) not in self._sound]

    def _readable(self, member: int, lead: int) -> bool:
        """Check that all fields of a member are finite; zarr returns NaN for lost chunks."""
        position = 0, member, self.description.leads.index(lead)
        try:
            with stores.readable(f"{self.path} is damaged"):
                return all(np.isfinite(np.asarray(array[position])).all() for array in self._fields)
        except DamagedFileError:
            return False

    def read(self, member: int, lead: int) -> NDArray[np.float32]:
        """Read a complete member at a lead (hours): its fields, (variable, y, x)."""
        position = 0, member, self.description.leads.index(lead)
        with stores.readable(f"{self.path} is damaged", start_over_advice(self.path)):
            return np.stack([np.asarray(array[position], np.float32) for array in self._fields])

    def write(self, member: int, lead: int, fields: NDArray[np.floating]) -> None:
        """Write one member at one lead, and mark it as complete.

        Args:
            member: Number of the member.
            lead: Lead time, hours.
            fields: Fields (variable, y, x), physical units, which are rounded to the lattice of each field.

        Raises:
            DamagedFileError: Values are not finite.
        """
        position = 0, member, self.description.leads.index(lead)
        if self.complete()[position[1:]]:  # The values are lost: clear the flag while new ones are written.
            self._complete[position] = conventions.ABSENT
        for variable, values in zip(self.description.variables, fields, strict=True):
            if not np.isfinite(values).all():
                raise DamagedFileError(
                    f"the model gave {variable.name} values that are not finite (member {member}, lead {lead} h)",
                    advice="run `convcast sample --set sampling.precision=float32`, or train it again",
                )

        def put(variable: Variable, array: zarr.Array, values: NDArray[np.floating]) -> None:
            array[position] = conventions.on_lattice(variable, values)

        # Each field is synced to the disk before the flag is written, so that a power failure never leaves a flag
        # without its fields. Fields are written concurrently, since each waits for the disk.
        with ThreadPoolExecutor(len(self._fields)) as pool:
            list(pool.map(put, self.description.variables, self._fields, fields))
        self._complete[position] = conventions.COMPLETE
        self._sound.add((member, lead))


def _create(path: Path, description: ForecastDescription, members: int) -> None:
    """Create an ensemble with room for `members` members, all absent."""
    with whole_folder(path, replace=False) as temporary:
        shape = 0, len(description.leads), *description.grid.shape
        dataset = conventions.ensemble_dataset(
            {variable.name: np.zeros(shape, np.float32) for variable in description.variables},
            init=description.init,
            members=(),
            leads=description.leads,
            direct=description.direct,
            grid=description.grid,
            attributes=description.attributes(),
        )
        with unconsolidated_is_fine():
            dataset.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False, encoding=_encoding(description))
        _grow(zarr.open_group(temporary, mode="r+", zarr_format=3, use_consolidated=False), temporary, members)


def _encoding(description: ForecastDescription) -> dict[str, dict[str, Any]]:
    # A field is read as a whole: four chunks in a shard take 1.4 times as long to read. Shuffled bits in place of bytes
    # take up to twice as long, and no less space.
    field = {
        "chunks": (1, 1, 1, *description.grid.shape),
        "compressors": (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=4), Crc32cCodec()),
    }
    return {
        **{variable.name: field for variable in description.variables},
        "complete": {"chunks": (1, 1, 1), "compressors": None},
        "number": {"chunks": (NUMBERS,)},
    }


def _open(path: Path, description: ForecastDescription) -> zarr.Group:
    """Open the group at `path`, which must be the described ensemble."""
    complaint, advice = f"{path} is not a convcast ensemble", start_over_advice(path)
    group = stores.open_group(path, writing=True, complaint=complaint, advice=advice)
    stored = dict(group.attrs)
    if stored.get("format") != FORMAT:
        raise DamagedFileError(complaint, advice=advice)
    for name, wanted in description.attributes().items():
        if name in description.information or stored.get(name) == wanted:
            continue
        if name == "leads" and set(description.leads) <= set(attribute_leads(stored)):
            continue
        made = f"with {name} {stored[name]!s}" if name in stored else f"without {name}"
        remedy = f"add --{name} {stored[name]}" if name in FLAGS and name in stored else "sample as it was made"
        raise DamagedFileError(
            f"{path} was made {made}, this is {name} {wanted!s}",
            advice=f"{remedy}, or {start_over_advice(path)}",
        )
    return group


def _members_seen(path: Path) -> int:
    """Return the number of members that readers see; 0 without consolidated metadata, which `_grow` rewrites."""
    try:
        with stores.readable(f"{path} has no consolidated metadata"):
            group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=True)
        return _array(group, "number", path).shape[0]
    except DamagedFileError:
        return 0


def _grow(group: zarr.Group, path: Path, members: int) -> None:
    """Make room for members 0 to `members` - 1; if it is interrupted, the next call completes it."""
    number = _array(group, "number", path)
    members = max(members, number.shape[0])
    for name, array in group.arrays():
        if name == "complete" or name in FIELDS:
            array.resize((array.shape[0], members, *array.shape[2:]))
    number.resize((members,))
    number[:] = np.arange(members)
    with unconsolidated_is_fine():
        zarr.consolidate_metadata(group.store)


def _array(group: zarr.Group, name: str, path: Path) -> zarr.Array:
    complaint, advice = f"{path} has no usable {name}", start_over_advice(path)
    return stores.open_array(group, name, complaint=complaint, advice=advice)


@contextmanager
def unconsolidated_is_fine() -> Iterator[None]:
    """Suppress zarr's warning that consolidated metadata is not in the v3 specification; readers may ignore it."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        yield
