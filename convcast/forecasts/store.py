"""forecasts/<init>.zarr: the members of one initial time, a Zarr v3 group laid out by convcast.conventions.

The template is written whole, under a temporary name, before any member. Then each member and lead has files of its
own: one for each field, and last its byte of `complete`. So a kill at any instant loses the one member that was being
written, and processes that write different members never touch the same file. Readers take the shapes from the
consolidated metadata, a single file, so that they see either the old or the new number of members while it grows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
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
INNER = 265, 450
"""Cells of a chunk at most, where a shard holds several: 1059 x 1799 is 4 x 4 of them."""
NUMBERS = 1024
"""Members that one chunk of the coordinate `number` covers."""
FLAGS = ("seed", "solver", "steps", "guidance")
"""Parts of an ensemble's identity that are options of `convcast sample`."""
READERS = 4
"""Threads that read members which are marked complete."""
_WARNINGS = RLock()
"""What is ignored is ignored in the whole process, so that threads must take turns in saying so."""
GROWTH_PATIENCE = 60
"""Seconds to wait for another process that is adding members."""


@dataclass(frozen=True)
class ForecastDescription:
    """What every member of an ensemble shares."""

    init: Hour
    leads: tuple[int, ...]
    """Hours, rising."""
    direct: tuple[int, ...]
    """The leads that are single forecasts; others are chains of one-hour forecasts."""
    variables: tuple[Variable, ...]
    grid: Grid
    identity: dict[str, Any]
    """Whatever a member depends on, by name (model, seed, solver, …): strings, numbers and booleans."""
    information: dict[str, Any]
    """Further global attributes, in which ensembles may differ."""

    def attributes(self) -> dict[str, Any]:
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
    """An ensemble opened for adding members. A member's number is its place, so that the stored ones are 0 to n - 1."""

    def __init__(self, path: Path, description: ForecastDescription, group: zarr.Group) -> None:
        self.path = path
        self.description = description
        self._fields = [_array(group, variable.name, path) for variable in description.variables]
        self._complete = _array(group, "complete", path)
        self._sound: set[tuple[int, int]] = set()

    @classmethod
    def prepare(cls, path: Path, description: ForecastDescription, *, members: int) -> EnsembleStore:
        """The ensemble at `path`, made where there is none, with room for at least `members` members.

        One that has more leads than described is the same ensemble; one that has fewer is not, since leads are fixed
        when it is made.

        Raises DamagedFileError where `path` is something else, or an ensemble of another identity, and says in what.
        """
        if path.is_symlink():
            raise DamagedFileError(
                f"{path} is a link, and members are written to no other place", advice=start_over_advice(path)
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
        """Which members and leads are there, (member, lead), as of now."""
        flags = read_flags(self._complete)[0]
        return np.asarray(flags == conventions.COMPLETE)

    def missing(self, members: Sequence[int], lead: int) -> list[int]:
        """Those of the members that are not complete at this lead, or whose values cannot be read.

        The values of each member that is marked complete are read once, which takes far less time than drawing them.
        """
        there = self.complete()[:, self.description.leads.index(lead)]
        doubtful = [member for member in members if there[member] and (member, lead) not in self._sound]
        with ThreadPoolExecutor(READERS) as pool:
            sound = pool.map(lambda member: self._readable(member, lead), doubtful)
            self._sound.update((member, lead) for member, whole in zip(doubtful, sound, strict=True) if whole)
        return [member for member in members if (member, lead) not in self._sound]

    def _readable(self, member: int, lead: int) -> bool:
        """Whether each field of a member is there whole; zarr answers NaN for chunks that are lost."""
        place = 0, member, self.description.leads.index(lead)
        try:
            with stores.readable(f"{self.path} is damaged"):
                return all(np.isfinite(np.asarray(array[place])).all() for array in self._fields)
        except DamagedFileError:
            return False

    def write(self, member: int, lead: int, fields: NDArray[np.floating]) -> None:
        """Add a member: `fields` (variable, y, x), physical units, rounded to the lattice of each field.

        Raises DamagedFileError where values are not finite, which is the model's fault.
        """
        place = 0, member, self.description.leads.index(lead)
        if self.complete()[place[1:]]:  # its values are lost, and must not count while others come
            self._complete[place] = conventions.ABSENT
        for variable, values in zip(self.description.variables, fields, strict=True):
            if not np.isfinite(values).all():
                raise DamagedFileError(
                    f"the model gave {variable.name} values that are not finite (member {member}, lead {lead} h)",
                    advice="train it again with a lower learning rate, or try --set sampling.precision=float32",
                )

        def put(variable: Variable, array: zarr.Array, values: NDArray[np.floating]) -> None:
            array[place] = conventions.on_lattice(variable, values)

        # A field is on the disk once it is put, so that the flag survives no power cut that a field does not. All at
        # once, since each waits for the disk.
        with ThreadPoolExecutor(len(self._fields)) as pool:
            list(pool.map(put, self.description.variables, self._fields, fields))
        self._complete[place] = conventions.COMPLETE
        self._sound.add((member, lead))


def _create(path: Path, description: ForecastDescription, members: int) -> None:
    """Write the template with no member, make room for `members`, and give it its name."""
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
    ny, nx = description.grid.shape
    down, along = ceil(ny / INNER[0]), ceil(nx / INNER[1])
    inner = ceil(ny / down), ceil(nx / along)
    field = {
        "chunks": (1, 1, 1, *inner),
        "shards": (1, 1, 1, inner[0] * down, inner[1] * along) if down * along > 1 else None,
        "compressors": (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=4), Crc32cCodec()),
    }
    return {
        **{variable.name: field for variable in description.variables},
        "complete": {"chunks": (1, 1, 1), "compressors": None},
        "number": {"chunks": (NUMBERS,)},
    }


def _open(path: Path, description: ForecastDescription) -> zarr.Group:
    """The group at `path`, which must be the ensemble described."""
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
        as_it_was = f"add --{name} {stored[name]}" if name in FLAGS and name in stored else "sample as it was made"
        raise DamagedFileError(
            f"{path} was made with {name} {stored.get(name)!s}, this is {name} {wanted!s}",
            advice=f"{as_it_was}, or {start_over_advice(path)}",
        )
    return group


def _members_seen(path: Path) -> int:
    """How many members a reader sees; 0 without consolidated metadata, which growing writes anew."""
    try:
        with stores.readable(f"{path} has no consolidated metadata"):
            group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=True)
        return _array(group, "number", path).shape[0]
    except DamagedFileError:
        return 0


def _grow(group: zarr.Group, path: Path, members: int) -> None:
    """Make room for members 0 to `members` - 1; a kill in between is mended by the next call."""
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
    """Zarr warns that consolidated metadata is not in the v3 specification; those who ignore it read the same."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        yield
