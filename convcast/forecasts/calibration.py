"""Calibration of an ensemble, member by member, with a map that was learnt from earlier forecasts and their truth.

The map of a field without a floor multiplies a member's departure from the ensemble mean by a factor and shifts the
mean; both have the least CRPS (Van Schaeybroeck and Vannitsem 2015, doi:10.1002/qj.2397). The map of reflectivity also
maps the values from the quantiles of the forecasts to those of the truth, which corrects the frequency of each event.
All maps are increasing, so that a member keeps its rank at every point. Maps differ between regimes only and are
blended across the regimes' borders, so that a member keeps its structure in space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from convcast.errors import DamagedFileError, SettingsError
from convcast.files import write_json
from convcast.metrics.regimes import REGIMES
from convcast.notation import Hour, compact, from_compact, parse_hour
from convcast.variables import Variable

Floats = NDArray[np.floating]
BLEND = 9
"""Width, in cells, of the square over which the regimes' maps are blended: 27 km."""
EVERYWHERE = "all"
"""Name of the map that is used where a regime has none, or is not known."""
MAX_FACTOR = 5.0
"""Maximum factor of departures from the mean; an ensemble that needs more has almost no spread to scale."""
Factor = Annotated[float, Field(gt=0, le=MAX_FACTOR)]


@dataclass(frozen=True)
class MemberMap:
    """Map of a field's members at a lead in a regime."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")

    factor: Factor = 1.0
    """Factor of a member's departure from the ensemble mean."""
    shift: float = 0.0
    """Added to the ensemble mean, in the field's units."""
    forecast: tuple[float, ...] = ()
    """Quantiles of the forecasts, strictly increasing; empty for a field without a quantile map."""
    observed: tuple[float, ...] = ()
    """Quantiles of the truth at the same probabilities, not decreasing."""
    points: int = 0
    """Number of points from which the map was learnt."""

    def __call__(self, members: Floats, mean: Floats, floor: float | None) -> Floats:
        """Map members, (member, ...), that have this mean, (...); no value falls below the floor."""
        mapped = mean + self.shift + self.factor * (members - mean)
        if floor is not None:
            mapped = np.maximum(mapped, floor)
        return self.to_observed(mapped) if self.forecast else mapped

    def to_observed(self, values: Floats) -> Floats:
        """Map values from the forecasts' quantiles to the truth's; values beyond the last keep their distance to it."""
        beyond = np.maximum(values - self.forecast[-1], 0)
        mapped: Floats = np.interp(values, self.forecast, self.observed) + beyond
        return mapped


@dataclass(frozen=True)
class Calibration:
    """Maps by field, lead and regime, and the hours from which they were learnt."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")

    first: str
    """First initial time that was used."""
    last: str
    """Last valid hour that was used: only forecasts that start at or after it may be calibrated."""
    cases: int
    """Number of forecasts, of one lead each, that were used."""
    maps: dict[str, dict[str, dict[str, MemberMap]]]
    """Maps by field, lead (hours) and regime."""
    simulated: bool = False
    model: str = ""
    """Short name of the model that drew the forecasts (`convcast.forecasts.open.model_identity` makes it)."""

    def find(self, field: str, lead: int) -> Mapping[str, MemberMap]:
        """Return the maps of a field at a lead by regime; empty where none were learnt."""
        return self.maps.get(field, {}).get(str(lead), {})

    @property
    def name(self) -> str:
        """Name of its file and the beginning of its digest, as forecast files have them."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{compact(parse_hour(self.last))} {digest[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        values: dict[str, Any] = _CALIBRATIONS.dump_python(self, mode="json")
        return values

    def apply(
        self,
        variable: Variable,
        lead: int,
        members: Floats,
        regimes: NDArray[np.int8] | None,
        *,
        mean: Floats | None = None,
    ) -> Floats:
        """Calibrate members of a field.

        Args:
            variable: The field.
            lead: Lead time, hours.
            members: Members of the ensemble, (member, y, x), in the field's units.
            regimes: Index into REGIMES of each point at the initial time, (y, x); None if not known.
            mean: Mean of the whole ensemble, (y, x), where `members` are a part of it.

        Returns:
            Calibrated members, (member, y, x), float32, within the field's bounds.
        """
        maps = self.find(variable.name, lead)
        if not maps:
            return members
        mean = members.mean(0) if mean is None else mean
        floor = variable.floor.none if variable.floor is not None else None
        mapped = np.zeros(members.shape, np.float32)
        for one, weight in _weights(maps, regimes, mean.shape):
            mapped += weight * one(members, mean, floor).astype(np.float32)
        low, high = variable.bounds
        return np.clip(mapped, np.float32(low), np.float32(high))


def _weights(
    maps: Mapping[str, MemberMap], regimes: NDArray[np.int8] | None, shape: tuple[int, ...]
) -> list[tuple[MemberMap, NDArray[np.float32]]]:
    """Return the maps with their weights at each point, (y, x), which sum to 1."""
    whole = maps[EVERYWHERE]
    if regimes is None:
        return [(whole, np.ones(shape, np.float32))]
    from scipy.ndimage import uniform_filter  # imported here, since a cycle that draws no member does without it

    parts = []
    rest = np.ones(shape, np.float32)
    for number, name in enumerate(REGIMES):
        if name in maps:
            weight = np.clip(uniform_filter((regimes == number).astype(np.float32), BLEND, mode="nearest"), 0, 1)
            parts.append((maps[name], weight))
            rest -= weight
    return [*parts, (whole, np.clip(rest, 0, 1))]


_CALIBRATIONS = TypeAdapter(Calibration)


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration under the last hour that it was learnt from."""
    path = folder / f"{compact(parse_hour(calibration.last))}.json"
    write_json(path, calibration.to_dict())
    return path


def read_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        DamagedFileError: The file is not a calibration.
    """
    try:
        calibration = _CALIBRATIONS.validate_json(path.read_text(encoding="utf-8"), strict=False)
        parse_hour(calibration.last)
        for leads in calibration.maps.values():
            for maps in leads.values():
                _check(maps)
    except (OSError, ValueError, SettingsError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DamagedFileError(
            f"{path} is not a calibration ({reason})", advice="delete it and run `convcast calibrate`"
        ) from None
    return calibration


def _check(maps: Mapping[str, MemberMap]) -> None:
    """Raise ValueError for maps that are incomplete or not increasing."""
    if EVERYWHERE not in maps or not set(maps) <= {EVERYWHERE, *REGIMES}:
        raise ValueError("it has maps of unknown regimes")
    for one in maps.values():
        numbers = np.array([one.factor, one.shift, *one.forecast, *one.observed])
        if len(one.forecast) != len(one.observed) or not np.isfinite(numbers).all():
            raise ValueError("its quantiles are not pairs of numbers")
        if (np.diff(one.forecast) <= 0).any() or (np.diff(one.observed) < 0).any():
            raise ValueError("its quantiles are not increasing")


def calibrations_before(folder: Path, init: Hour) -> list[Path]:
    """Return the files of the calibrations that were learnt from nothing later than `init`, newest first."""
    found: list[tuple[Hour, Path]] = []
    for path in folder.glob("*.json"):
        hour = from_compact(path.stem)
        if hour is not None and hour <= init:
            found.append((hour, path))
    return [path for _, path in sorted(found, reverse=True)]
