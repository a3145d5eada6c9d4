"""Whether a forecast file holds the values that it claims: a flag alone proves nothing once a chunk is lost.

Every field of a complete member and lead is finite, and its chunks are never left out for being empty. So a chunk file
that is absent or cut short means that values are lost, which zarr would answer with NaN. Looking at the files takes
milliseconds for each hundred members; no value is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from convcast import stores
from convcast.conventions import ABSENT, SECONDS
from convcast.errors import DamagedFileError
from convcast.notation import HOUR, Hour, from_compact, join_numbers, parse_numbers
from convcast.variables import FIELDS

COORDINATES = ("init_time", "lead_time", "valid_time", "y", "x", "latitude", "longitude")
"""Coordinates that are never all zero, so that their chunks are always written."""

FORMATS = ("convcast ensemble", "convcast products")
"""The attribute `format` of forecast files."""
EVERY_PRODUCT = ("mean", "spread", "quantile", "probability", "neighbourhood_probability")
"""Products of every field; a field that may be constant has a probability-matched mean too."""
MATCHED_MEAN = "matched_mean"
UNREADABLE = -1
"""What `read_flags` gives for a flag whose file is damaged."""


@dataclass(frozen=True)
class DamagedMember:
    """A member and lead that is marked complete and whose values are not there."""

    init: int
    """Position along `init_time`."""
    member: int
    """Position along `number`."""
    lead: int
    """Position along `lead_time`."""
    file: Path
    fault: str
    """What is wrong with the file, as `is gone` or `is cut short`."""


def damaged_members(path: Path) -> list[DamagedMember]:
    """The members and leads of the ensemble at `path` that are marked complete and have lost values.

    Raises DamagedFileError where the store or its flags cannot be read, or a coordinate has lost its values.
    """
    complaint, advice = f"{path} is not a readable ensemble", start_over_advice(path)
    group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
    with stores.readable(complaint, advice):
        require_coordinates(group, path)
        complete = stores.open_array(group, "complete", complaint=complaint, advice=advice)
        names = _fields(group) or [name for name in FIELDS if name in group]
        arrays = [stores.open_array(group, name, complaint=complaint, advice=advice) for name in names]
        flags = read_flags(complete)
        found = []
        for init, member, lead in np.argwhere(flags != ABSENT).tolist():
            place = init, member, lead
            if flags[place] == UNREADABLE:
                file = path / complete.path / complete.metadata.encode_chunk_key(place)
                found.append(DamagedMember(init, member, lead, file, "cannot be read"))
                continue
            faults = (fault for array in arrays if (fault := stores.chunk_fault(array, path, place)))
            if fault := next(faults, None):
                found.append(DamagedMember(init, member, lead, *fault))
    return found


def read_flags(complete: zarr.Array) -> NDArray[np.int8]:
    """The array `complete`, (init, member, lead): ABSENT, COMPLETE, or UNREADABLE where a flag's file is damaged."""
    try:
        with stores.readable("flags are damaged"):
            return np.asarray(complete[:], np.int8)
    except DamagedFileError:
        flags = np.full(complete.shape, UNREADABLE, np.int8)
    for place in np.ndindex(*complete.shape):
        with suppress(DamagedFileError), stores.readable("a flag is damaged"):
            flags[place] = complete[place]
    return flags


def require_members(path: Path) -> None:
    """Raise DamagedFileError, naming members and leads, where the ensemble at `path` has lost values."""
    damaged = damaged_members(path)
    if not damaged:
        return
    attributes, first = _attributes(path), damaged[0]
    with (
        stores.readable(f"{path} cannot be read", start_over_advice(path)),
        xr.open_zarr(path, consolidated=False, decode_timedelta=True) as data,
    ):
        leads = (data.lead_time.values / HOUR).astype(int).tolist()
    members, hours = sorted({one.member for one in damaged}), sorted({leads[one.lead] for one in damaged})
    raise DamagedFileError(
        f"{path} has lost values of member {join_numbers(members)} at lead {join_numbers(hours)} h, "
        f"which it marks as complete: {first.file.relative_to(path)} {first.fault}",
        advice=_command(path, attributes, members, hours),
    )


def read_values(field: xr.DataArray, path: Path) -> NDArray[np.floating]:
    """The values of a field or product at one lead, any shape, of members that are complete, from the file at `path`.

    Raises DamagedFileError, naming the member, where they cannot be decoded or are not finite.
    """
    try:
        return _finite(field)
    except DamagedFileError as error:
        if "number" not in field.dims:
            raise _lost(field, path, str(error)) from error
        for place in range(field.sizes["number"]):
            try:
                _finite(field.isel(number=place))
            except DamagedFileError as of_member:
                raise _lost(field.isel(number=place), path, str(of_member)) from error
        raise  # it was read this time


def _finite(field: xr.DataArray) -> NDArray[np.floating]:
    with stores.readable("they cannot be decoded"):
        values: NDArray[np.floating] = np.asarray(field.values)
    if not np.isfinite(values).all():
        raise DamagedFileError("they are not finite")
    return values


def _lost(field: xr.DataArray, path: Path, why: str) -> DamagedFileError:
    attributes = _attributes(path)
    lead = int(field.lead_time.values / HOUR)
    if "number" in field.coords:
        member = int(field.number.values)
        what, advice = f"{field.name} of member {member}", _command(path, attributes, [member], [lead])
    else:
        what, advice = str(field.name), _make_again(path, attributes, [lead])
    return DamagedFileError(f"{path} has damaged values of {what} at lead {lead} h: {why}", advice=advice)


def damaged_leads(path: Path) -> set[int]:
    """Positions along `lead_time` of the leads of which the products at `path` have lost values; raises as above."""
    complaint, advice = f"{path} is not convcast's products", start_over_advice(path)
    group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
    with stores.readable(complaint, advice):
        require_coordinates(group, path)
        names = [f"{name}_{what}" for name in _fields(group) for what in EVERY_PRODUCT]
        names += [name for field in _fields(group) if (name := f"{field}_{MATCHED_MEAN}") in group]
        arrays = [stores.open_array(group, name, complaint=complaint, advice=advice) for name in names]
        count = len(attribute_leads(dict(group.attrs)))
        return {
            lead
            for lead in range(count)
            if any(stores.chunk_fault(array, path, (0, lead)) is not None for array in arrays)
        }


def require_products(path: Path) -> None:
    """Raise DamagedFileError where the products at `path` have lost values."""
    damaged = damaged_leads(path)
    if damaged:
        attributes = _attributes(path)
        hours = attribute_leads(attributes) or range(max(damaged) + 1)
        named = [hours[lead] for lead in sorted(damaged)]
        raise DamagedFileError(
            f"{path} has lost values of lead {join_numbers(named)} h", advice=_make_again(path, attributes, named)
        )


def require_coordinates(group: zarr.Group, path: Path) -> None:
    """Raise DamagedFileError where a coordinate of the forecast file at `path` has lost its values."""
    for name in COORDINATES:
        array = group.get(name)
        fault = stores.chunk_fault(array, path, ()) if isinstance(array, zarr.Array) else None
        if fault is None or (fault[1] == "is gone" and isinstance(array, zarr.Array) and _counts_from_itself(array)):
            continue
        raise DamagedFileError(
            f"{path} has lost its {name}: {fault[0].relative_to(path)} {fault[1]}", advice=start_over_advice(path)
        )


def _counts_from_itself(array: zarr.Array) -> bool:
    """Whether a coordinate counts time from another date than convcast does: a copy that xarray made counts from the
    first one, so that a single time is 0, and has no file.
    """
    units = str(array.attrs.get("units", ""))
    return " since " in units and units != SECONDS["units"]


def _attributes(path: Path) -> dict[str, Any]:
    with stores.readable(f"{path} cannot be read", start_over_advice(path)):
        return dict(zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False).attrs)


def _fields(group: zarr.Group) -> list[str]:
    """Names of the fields that the file was made with; none where it does not say."""
    return str(dict(group.attrs).get("fields", "")).split()


def attribute_leads(attributes: Mapping[str, Any]) -> list[int]:
    """Hours; none where the attributes do not say."""
    said = attributes.get("leads")
    return said if isinstance(said, list) and all(isinstance(lead, int) for lead in said) else []


def _command(path: Path, attributes: dict[str, Any], members: Sequence[int], leads: Sequence[int], *more: str) -> str:
    """How to draw these members again as they were drawn; `3-3` is member 3, and 3 the first three."""
    numbers = join_numbers(members)
    words = ["convcast sample --init", str(_init(path, attributes))]
    words += ["--members", numbers if len(members) > 1 else f"{numbers}-{numbers}", "--leads", join_numbers(leads)]
    for name in ("seed", "solver", "steps", "guidance"):
        words += [f"--{name}", f"{attributes[name]}"] if name in attributes else []
    words += more
    return f"run `{' '.join(words)}{_workspace(path)}`"


def _make_again(path: Path, attributes: dict[str, Any], leads: Sequence[int]) -> str:
    """How to make products again, of the same members; drawn again where they are gone."""
    members = parse_numbers(str(attributes.get("members")), "members")
    return _command(path, attributes, members, leads, "--keep products")


def find_fault(path: Path) -> str | None:
    """Why the forecast file at `path` is left alone, in words that follow its name; None for one of convcast's."""
    if path.is_symlink():
        return "is a link" if path.exists() else "is a link to nothing"
    if not path.is_dir():
        return "is no folder"
    try:
        made_by = _attributes(path).get("format")
    except (DamagedFileError, OSError):
        return "cannot be read as a forecast"
    return None if made_by in FORMATS else "was not made by convcast"


def start_over_advice(path: Path) -> str:
    """Advice for a forecast file that is not one: it is moved out of the way, and nothing of anybody's is lost."""
    return f"run `mv {path} {path}.aside`, then `convcast sample --init {from_compact(path.stem)}{_workspace(path)}`"


def _init(path: Path, attributes: dict[str, Any]) -> Hour | None:
    return from_compact(str(attributes.get("init", path.stem)))


def _workspace(path: Path) -> str:
    """The option that names the workspace of a forecast file, where it lies in one."""
    root = path.absolute().parent.parent
    return f" -w {root}" if (root / "convcast.toml").is_file() else ""
