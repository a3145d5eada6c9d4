"""Match a file's variables to fields by standard name, short name, long name and name, in this order.

Every field and variable that is not matched is reported with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.errors import DamagedFileError
from convcast.grid import LATIN, ORIENTATION
from convcast.text import list_some
from convcast.variables import FIELDS, U10, V10, Variable
from convcast.verification.data.gridded_files.points import Points
from convcast.verification.data.gridded_files.units import SAME, Conversion, conversion

KEYS = ("standard_name", "short_name", "long_name", "name")
"""Properties that identify a variable, the most reliable first."""
_ATTRIBUTES = {
    "standard_name": ("standard_name",),
    "short_name": ("GRIB_shortName", "short_name", "GRIB_cfVarName"),
    "long_name": ("long_name", "GRIB_name", "description"),
}
_UNINFORMATIVE = ("", "unknown", "undef", "none", "~")
_SURFACES = {
    "heightAboveGround": 103,
    "surface": 1,
    "atmosphere": 10,
    "entireAtmosphere": 10,
    "atmosphereSingleLayer": 10,
}
"""Code of a surface in GRIB2 table 4.5, by ecCodes' name."""
_LEVELS = ("heightAboveGround", "height", "level", "plev", "isobaricInhPa", "pressure")
"""Names of scalar coordinates that give the level of a variable."""
SINGLE_FORECASTS = (0, 1)
"""GRIB2 product templates of a forecast at a point in time: deterministic, and member of an ensemble."""
MAX_NAMED = 8
"""Maximum number of unknown variables that a sentence lists."""
NO_FIELD = "no field that convcast knows"
STATISTIC = "a statistic of an ensemble, or of a period"


@dataclass(frozen=True)
class MatchedVariable:
    """Variable of a file that holds a field."""

    name: str
    by: str
    """Property that identified it, one of KEYS."""
    units: str
    """Units in the file."""
    convert: Conversion = SAME
    turn: tuple[str, NDArray[np.float32]] | None = None
    """Name of the other wind component and rotation angle to the grid's axes, radians, (y, x); None if not rotated."""

    def __str__(self) -> str:
        converted = "" if self.convert == SAME else f", converted from {self.units}"
        turned = "" if self.turn is None else ", turned to the grid's axes"
        return f"{self.name} by its {self.by.replace('_', ' ')}{converted}{turned}"


@dataclass
class FieldMatches:
    """Fields of a file that are scored, and reasons why others are not."""

    found: dict[Variable, MatchedVariable] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    """Reason why a field is not scored, by the field's name."""
    unscored: dict[str, str] = field(default_factory=dict)
    """Reason why a variable of the file is not scored, by the variable's name."""

    def without(self, variable: Variable, reason: str) -> None:
        """Leave out a field, for this reason."""
        self.lacking[variable.name] = reason
        self.unscored[self.found.pop(variable).name] = reason

    def field_report(self, scored: Collection[Variable]) -> dict[str, Any]:
        """Describe for scores.json what is scored and what is not, where these fields are scored."""
        return {
            "scored": {v.name: str(found) for v, found in self.found.items() if v in scored},
            "fields_not_scored": self.lacking
            | {v.name: "the other file does not hold it" for v in self.found if v not in scored},
            "variables_not_scored": dict(self.unscored),
        }


def describe(report: Mapping[str, Any]) -> str:
    """Return a sentence on what is scored of a file and what is not, from its entry in scores.json."""
    scored = ", ".join(f"{name} is {variable}" for name, variable in report["scored"].items()) or "nothing is scored"
    lacking = [f"{name} ({reason})" for name, reason in report["fields_not_scored"].items()]
    left = report["variables_not_scored"]
    aside = [
        f"{name} ({why})" for name, why in left.items() if why not in (NO_FIELD, *report["fields_not_scored"].values())
    ]
    others = [name for name, reason in left.items() if reason == NO_FIELD]
    named = list_some(others, MAX_NAMED)
    more = report["files"] - 1
    return "; ".join(
        [
            f"{report['file']}{f' and {more} more files' if more else ''}: {scored}",
            *([f"not scored: {', '.join(lacking)}"] if lacking else []),
            *([f"other variables: {', '.join(aside)}"] if aside else []),
            *([f"{NO_FIELD}: {named}"] if named else []),
        ]
    )


def find_fields(data: xr.Dataset, path: Path) -> FieldMatches:
    """Match the variables of a file to fields.

    Args:
        data: Dataset with dimensions y and x.
        path: File it was read from, for error messages.

    Raises:
        DamagedFileError: Two variables may be one field, or a field has unknown units or another standard name.
    """
    matches = FieldMatches()
    maps = {str(name): variable for name, variable in data.data_vars.items() if {"y", "x"} <= set(variable.dims)}
    reasons = dict.fromkeys(maps, NO_FIELD)
    for variable in FIELDS.values():
        candidates: dict[str, list[bool]] = {}
        other: dict[str, str] = {}
        for name, array in maps.items():
            known = _known_by(array, name, variable)
            standard = _text(array, "standard_name")
            if not any(known):
                continue
            if standard and not known[0]:
                other[name] = reasons[name] = f"its standard_name is {standard}, not {variable.standard_name}"
            elif reason := _mismatch(array, name, variable, known):
                other[name] = reasons[name] = reason
            else:
                candidates[name] = known
        if not candidates:
            if variable.name in other:
                standard = _text(maps[variable.name], "standard_name")
                if standard and not _means(variable, standard):
                    raise DamagedFileError(
                        f"{path} has {variable.name} with the standard name {standard}, not {variable.standard_name}",
                        advice=f'rename it: data.rename({variable.name}="another_name"), or correct its standard_name',
                    )
            matches.lacking[variable.name] = next(
                (f"{name}: {reason}" for name, reason in other.items()), "the file does not hold it"
            )
            continue
        name, by = _choose(candidates, variable, path)
        matches.found[variable] = _in_units(maps[name], name, by, variable, path)
        reasons |= dict.fromkeys(set(candidates) - {name}, f"{variable.name} is {name}")
    used = {found.name for found in matches.found.values()}
    matches.unscored = {name: reason for name, reason in reasons.items() if name not in used}
    return matches


def settle_winds(data: xr.Dataset, matches: FieldMatches, points: Points) -> None:
    """Mark eastward and northward winds for rotation to the grid's axes, or leave them out where that is impossible.

    On a latitude-longitude grid no rotation is needed.

    Args:
        data: The fields of the file.
        matches: Fields and the variables matched to them, which are changed in place.
        points: Points of the file's maps.
    """
    if points.unit == "degrees" and points.y is not None:
        return
    before = dict(matches.found)
    for variable, other in ((U10, V10), (V10, U10)):
        if variable not in before:
            continue
        match, partner = before[variable], before.get(other)
        attributes = data[match.name].attrs
        relative = attributes.get("GRIB_uvRelativeToGrid")
        standard = str(attributes.get("standard_name"))
        if relative is None and standard in ("eastward_wind", "northward_wind"):
            matches.without(
                variable,
                f"it is {standard}, and the file does not say whether it points along the grid's axes, as HRRR's does, "
                f'or to east and north: set data["{match.name}"].attrs["GRIB_uvRelativeToGrid"] to 1 or to 0',
            )
        elif relative is not None and str(relative) != "1":
            if partner is None or points.grid is None:
                lacks = f"{other.name} is not there" if partner is None else "the file's grid is not HRRR's"
                matches.without(variable, f"it points to east or north, and {lacks}: rotate it to the grid's axes")
            else:
                matches.found[variable] = replace(match, turn=(partner.name, _angle(points)))


def turned(
    variable: Variable, values: NDArray[np.float32], other: NDArray[np.float32], angle: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rotate an eastward or northward wind to the grid's axes.

    Args:
        variable: U10 or V10, the component to return.
        values: The eastward or northward wind, in the order of `variable`, (..., y, x).
        other: The other component, (..., y, x).
        angle: Angle between north and the grid's y axis, radians, (y, x).
    """
    sign = np.float32(-1 if variable is U10 else 1)
    return np.asarray(np.cos(angle) * values + sign * np.sin(angle) * other, np.float32)


def _angle(points: Points) -> NDArray[np.float32]:
    """Return the angle between north and the grid's y axis in HRRR's projection, (y, x), radians."""
    assert points.latitude_longitude is not None
    longitude = points.latitude_longitude[1]
    return np.asarray(np.radians(np.sin(np.radians(LATIN)) * (longitude - ORIENTATION)), np.float32)


def _known_by(array: xr.DataArray, name: str, variable: Variable) -> list[bool]:
    """Return whether each of KEYS identifies a variable as the field."""
    standard = _text(array, "standard_name")
    return [
        standard is not None and _means(variable, standard),
        any(is_named(variable, text) for text in _texts(array, "short_name")),
        any(is_named(variable, text) for text in _texts(array, "long_name")),
        is_named(variable, name),
    ]


def _mismatch(array: xr.DataArray, name: str, variable: Variable, known: list[bool]) -> str | None:
    """Return why a variable with the field's name is another quantity (level, period); None if it is not."""
    attributes = array.attrs
    kind = str(attributes.get("GRIB_stepType", attributes.get("step_type", "instant")))
    if kind != "instant":
        return f"it is of a period ({kind}), not of an hour"
    template = attributes.get("GRIB_productDefinitionTemplateNumber", 0)
    if template not in SINGLE_FORECASTS:
        return f"it is {STATISTIC}"
    surface = attributes.get("GRIB_typeOfLevel")
    if surface is not None and not is_level(variable, str(surface)):
        return f"its level is {surface}, not {variable.index_level}"
    if known[1] or known[3]:
        return None
    for level in _LEVELS:
        if level in array.coords and array.coords[level].ndim == 0 and variable.grib.level:
            value = float(array.coords[level])
            if value != variable.grib.level:
                return f"its {level} is {value:g}, not {variable.index_level}"
    short = _text(array, "short_name")
    if short is not None:
        return f"its short name is {short}, which is not one of {variable.name}"
    levels = re.findall(r"\d+", name)
    if levels and variable.grib.level and all(float(level) != variable.grib.level for level in levels):
        return f"by its name it is at another level than {variable.index_level}"
    return None


def _choose(candidates: dict[str, list[bool]], variable: Variable, path: Path) -> tuple[str, str]:
    """Return the variable that the most reliable of KEYS identifies, and that key."""
    left = dict(candidates)
    for key in range(len(KEYS)):
        agreeing = {name: known for name, known in left.items() if known[key]}
        left = agreeing or left
    if len(left) > 1 and variable.name in left:
        left = {variable.name: left[variable.name]}
    if len(left) > 1:
        one, other, *_ = sorted(left)
        raise DamagedFileError(
            f"{path} has {' and '.join(sorted(left))}, each of which may be {variable.name}",
            advice=f'rename the right one: data.rename({one}="{variable.name}"), or data.drop_vars("{other}")',
        )
    ((name, known),) = left.items()
    return name, KEYS[known.index(True)]


def _in_units(array: xr.DataArray, name: str, by: str, variable: Variable, path: Path) -> MatchedVariable:
    units = array.attrs.get("units")
    if units is None:
        raise DamagedFileError(
            f"{path} does not give the units of {name}",
            advice=f'set them: data["{name}"].attrs["units"] = "{variable.units}"',
        )
    convert = conversion(str(units), variable.units)
    if convert is None:
        raise DamagedFileError(
            f"{path} has {name} in {units}, not in {variable.units}",
            advice=f'convert it, or leave it out: data.drop_vars("{name}")',
        )
    return MatchedVariable(name, by, str(units), convert)


def is_named(variable: Variable, text: str) -> bool:
    """Return whether a short name, a long name or the name of a variable is one of the field's."""
    return _plain(text) in _names(variable)


def is_level(variable: Variable, type_of_level: str) -> bool:
    """Return whether the field is defined at this type of level, in ecCodes' naming."""
    return _SURFACES.get(type_of_level) == variable.grib.surface


def _means(variable: Variable, standard: str) -> bool:
    """Return whether a standard name may be the field's."""
    return standard == variable.standard_name or standard in variable.other_standard_names


def _texts(array: xr.DataArray, key: str) -> Iterator[str]:
    for attribute in _ATTRIBUTES[key]:
        text = str(array.attrs.get(attribute, "")).strip()
        if text.lower() not in _UNINFORMATIVE:
            yield text


def _text(array: xr.DataArray, key: str) -> str | None:
    return next(_texts(array, key), None)


@lru_cache
def _names(variable: Variable) -> frozenset[str]:
    own = (variable.name, variable.long_name, *variable.other_names)
    return frozenset(_plain(text) for text in own)


def _plain(text: str) -> str:
    """Convert a text to lower case with words joined by one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
