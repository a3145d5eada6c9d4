"""Check that forecast files hold the values that they mark as complete.

All fields of a complete member and lead are finite, and their chunks are always written. A chunk file that is absent or
truncated therefore means that values are lost, although zarr would return NaN without an error. The check looks at
files only, decodes no values, and takes milliseconds for each hundred members.
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
from convcast.notation import HOUR, from_compact, join_numbers, parse_numbers
from convcast.variables import FIELDS

COORDINATES = ("init_time", "lead_time", "valid_time", "y", "x", "latitude", "longitude")
"""Coordinates whose chunks are always written, since they are never all zero."""

FORMATS = ("convcast ensemble", "convcast products")
"""Values of the attribute `format`: of ensembles, and of products."""
EVERY_PRODUCT = ("mean", "spread", "quantile", "probability", "neighbourhood_probability")
"""Products of every field."""
MATCHED_MEAN = "matched_mean"
"""Probability-matched mean, the product of fields that may be constant (Variable.may_be_constant)."""
UNREADABLE = -1
"""Value of `read_flags` for a flag whose file is damaged."""


@dataclass(frozen=True)
class DamagedMember:
    """A member and lead that is marked as complete although values are lost."""

    init: int
    """Position along `init_time`."""
    member: int
    """Position along `number`."""
    lead: int
    """Position along `lead_time`."""
    file: Path
    """The absent or damaged chunk file."""
    fault: str
    """Fault of the file as a predicate, such as `is gone` or `is cut short`."""


def _open_checked(path: Path, complaint: str, advice: str) -> zarr.Group:
    """Open a forecast store for reading, and check that no coordinate has lost its values."""
    group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
    with stores.readable(complaint, advice):
        require_coordinates(group, path)
    return group


def damaged_members(path: Path) -> list[DamagedMember]:
    """Find the members and leads of an ensemble that are marked as complete and have lost values.

    Raises:
        DamagedFileError: The store at `path` cannot be read, or a coordinate has lost its values.
    """
    complaint, advice = f"{path} is not a readable ensemble", start_over_advice(path)
    group = _open_checked(path, complaint, advice)
    with stores.readable(complaint, advice):
        complete = stores.open_array(group, "complete", complaint=complaint, advice=advice)
        names = _fields(group) or [name for name in FIELDS if name in group]
        arrays = [stores.open_array(group, name, complaint=complaint, advice=advice) for name in names]
        flags = read_flags(complete)
        damaged = []
        for init, member, lead in np.argwhere(flags != ABSENT).tolist():
            position = init, member, lead
            if flags[position] == UNREADABLE:
                file = path / complete.path / complete.metadata.encode_chunk_key(position)
                damaged.append(DamagedMember(init, member, lead, file, "cannot be read"))
                continue
            faults = (fault for array in arrays if (fault := stores.chunk_fault(array, path, position)))
            if fault := next(faults, None):
                damaged.append(DamagedMember(init, member, lead, *fault))
    return damaged


def read_flags(complete: zarr.Array) -> NDArray[np.int8]:
    """Read the array `complete`, (init, member, lead): ABSENT, COMPLETE, or UNREADABLE if a flag's file is damaged."""
    try:
        with stores.readable("flags are damaged"):
            return np.asarray(complete[:], np.int8)
    except DamagedFileError:
        flags = np.full(complete.shape, UNREADABLE, np.int8)
    for position in np.ndindex(*complete.shape):
        with suppress(DamagedFileError), stores.readable("a flag is damaged"):
            flags[position] = complete[position]
    return flags


def require_members(path: Path) -> None:
    """Raise DamagedFileError, which names members and leads, if the ensemble at `path` has lost values."""
    damaged = damaged_members(path)
    if not damaged:
        return
    attributes, first = _attributes(path), damaged[0]
    with (
        stores.readable(f"{path} cannot be read", start_over_advice(path)),
        xr.open_zarr(path, zarr_format=3, consolidated=False, decode_timedelta=True) as data,
    ):
        leads = (data.lead_time.values / HOUR).astype(int).tolist()
    members, hours = sorted({part.member for part in damaged}), sorted({leads[part.lead] for part in damaged})
    raise DamagedFileError(
        f"{path} has lost values of member {join_numbers(members)} at lead {join_numbers(hours)} h, "
        f"which it marks as complete: {first.file.relative_to(path)} {first.fault}",
        advice=_command(path, attributes, members, hours),
    )


def read_values(field: xr.DataArray, path: Path) -> NDArray[np.floating]:
    """Read the values of a field of complete members, or of a product, at one lead.

    Args:
        field: The field or product, of any shape, from `open_forecast`.
        path: The forecast file, for messages.

    Raises:
        DamagedFileError: Values cannot be decoded or are not finite; the message names the member.
    """
    try:
        return _finite(field)
    except DamagedFileError as error:
        if "number" not in field.dims:
            raise _lost(field, path, str(error)) from error
        for position in range(field.sizes["number"]):
            try:
                _finite(field.isel(number=position))
            except DamagedFileError as member_error:
                raise _lost(field.isel(number=position), path, str(member_error)) from error
        raise  # each member could be read on its own


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
    """Find the leads, by position along `lead_time`, whose products have lost values.

    Raises:
        DamagedFileError: The store at `path` cannot be read, or a coordinate has lost its values.
    """
    complaint, advice = f"{path} is not convcast's products", start_over_advice(path)
    group = _open_checked(path, complaint, advice)
    with stores.readable(complaint, advice):
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
    """Raise DamagedFileError, which names the leads, if the products at `path` have lost values."""
    damaged = damaged_leads(path)
    if damaged:
        attributes = _attributes(path)
        hours = attribute_leads(attributes) or range(max(damaged) + 1)
        lost = [hours[lead] for lead in sorted(damaged)]
        raise DamagedFileError(
            f"{path} has lost values of lead {join_numbers(lost)} h", advice=_make_again(path, attributes, lost)
        )


def require_coordinates(group: zarr.Group, path: Path) -> None:
    """Raise DamagedFileError if a coordinate of the forecast file at `path` has lost its values."""
    for name in COORDINATES:
        array = group.get(name)
        fault = stores.chunk_fault(array, path, ()) if isinstance(array, zarr.Array) else None
        if fault is None or (fault[1] == "is gone" and isinstance(array, zarr.Array) and _counts_from_itself(array)):
            continue
        raise DamagedFileError(
            f"{path} has lost its {name}: {fault[0].relative_to(path)} {fault[1]}", advice=start_over_advice(path)
        )


def _counts_from_itself(array: zarr.Array) -> bool:
    """Return whether a time coordinate has another reference date than convcast's.

    xarray writes a copy with times relative to the first one, so that a single time is 0 and has no chunk file.
    """
    units = str(array.attrs.get("units", ""))
    return " since " in units and units != SECONDS["units"]


def _attributes(path: Path) -> dict[str, Any]:
    with stores.readable(f"{path} cannot be read", start_over_advice(path)):
        return dict(zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False).attrs)


def _fields(group: zarr.Group) -> list[str]:
    """Return the names of the fields in the attribute `fields`; empty if it is absent."""
    return str(dict(group.attrs).get("fields", "")).split()


def attribute_leads(attributes: Mapping[str, Any]) -> list[int]:
    """Return the lead times, hours, in the attribute `leads` of a forecast file; empty if it is absent or invalid."""
    leads = attributes.get("leads")
    return leads if isinstance(leads, list) and all(isinstance(lead, int) for lead in leads) else []


def _command(path: Path, attributes: dict[str, Any], members: Sequence[int], leads: Sequence[int], *more: str) -> str:
    """Advise the command that draws these members again; `3-3` is member 3, whereas `3` is the first three."""
    numbers = join_numbers(members)
    words = ["convcast sample --init", str(from_compact(str(attributes.get("init", path.stem))))]
    words += ["--members", numbers if len(members) > 1 else f"{numbers}-{numbers}", "--leads", join_numbers(leads)]
    for name in ("seed", "solver", "steps", "guidance"):
        words += [f"--{name}", f"{attributes[name]}"] if name in attributes else []
    words += more
    return f"run `{' '.join(words)}{_workspace(path)}`"


def _make_again(path: Path, attributes: dict[str, Any], leads: Sequence[int]) -> str:
    """Advise the command that computes the products again, drawing members that are absent."""
    members = parse_numbers(str(attributes.get("members")), "members")
    return _command(path, attributes, members, leads, "--keep products")


def find_fault(path: Path) -> str | None:
    """Return why `path` is not a forecast file of convcast, as a predicate; None if it is one."""
    if path.is_symlink():
        return "is a link" if path.exists() else "is a link to nothing"
    if not path.is_dir():
        return "is not a folder"
    try:
        file_format = _attributes(path).get("format")
    except (DamagedFileError, OSError):
        return "cannot be read as a forecast"
    return None if file_format in FORMATS else "was not made by convcast"


def start_over_advice(path: Path) -> str:
    """Advise the commands that move an unusable forecast file aside and draw the forecast again."""
    return f"run `mv {path} {path}.aside`, then `convcast sample --init {from_compact(path.stem)}{_workspace(path)}`"


def _workspace(path: Path) -> str:
    """Return the option that names the workspace of a forecast file; empty if it is not in a workspace."""
    root = path.absolute().parent.parent
    return f" -w {root}" if (root / "convcast.toml").is_file() else ""
