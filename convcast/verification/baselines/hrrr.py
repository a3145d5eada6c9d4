"""HRRR's own forecasts, as a baseline: the latest one, and an ensemble of older ones for the same hour."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import Archive, open_archives
from convcast.archive.locations import archive_path, hrrr
from convcast.archive.reference_ensembles import Member, time_lagged_members
from convcast.dataset.decode import DecodedFields, decode_hour
from convcast.errors import DamagedFileError, SettingsError
from convcast.notation import HOUR, Hour
from convcast.variables import Variable
from convcast.verification.data.truth import Truth

Members = Callable[[Hour, int], tuple[Member, ...]]
"""The forecasts that make an ensemble for an initial time and a lead."""


def latest_forecast(truth: Truth) -> Members:
    """The forecast of the cycle that the case starts from; where f01 stands for the analysis, of the cycle before."""
    late = truth.analysis_lead
    return lambda init, lead: (Member("hrrr", hrrr(init - late * HOUR, lead + late), 0),)


def time_lagged(truth: Truth, ages: Sequence[int]) -> Members:
    """Forecasts of so many cycles before the case's own, for the same hour."""
    late = truth.analysis_lead
    return lambda init, lead: time_lagged_members(init - late * HOUR, lead + late, ages)


class Forecasts:
    """HRRR forecasts of the archive, each a member, on the truth's points.

    A case has all of its members or does not count.
    """

    def __init__(self, name: str, members: Members, truth: Truth, archive: Path) -> None:
        """Raises SettingsError where the truth is no part of the HRRR grid, or is simulated."""
        grid = truth.place.grid
        if truth.simulated:
            raise SettingsError(
                f"the simulated world has no {name} forecasts", advice="use --against exact --against persistence"
            )
        if grid is None:
            raise SettingsError(
                f"{name} is on the HRRR grid and the truth is not",
                advice="use --against persistence, or regrid the truth",
            )
        self.name = name
        self._members, self._truth, self._grid = members, truth, grid
        self._archive: Archive = open_archives(archive)["hrrr"]
        self._held: dict[Path, DecodedFields] = {}

    def missing(self, init: Hour, lead: int) -> str | None:
        names = [variable.name for variable in self._truth.variables]
        for member, path in self._paths(init, lead):
            if self._archive.has(path, names) is None:
                return f"the archive lacks the forecast of {member.file.init} for {member.file.lead} h ahead"
            lacking = set(names) & set(self._archive.sidecar(path).lacking)
            if lacking:
                return f"the forecast of {member.file.init} for {member.file.lead} h ahead has no {' '.join(lacking)}"
        return None

    def lacks(self, variable: Variable) -> str | None:  # noqa: ARG002
        return None

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        files = [member.file for case in cases for member in self._members(*case)]
        leads = ",".join(map(str, sorted({file.lead for file in files})))
        first, last = min(file.valid for file in files), max(file.valid for file in files)
        return f"convcast fetch --what time-lagged --leads {leads} --start {first} --end {last}"

    def fingerprint(self, init: Hour, lead: int) -> str:
        said = [self._archive.sidecar(path).sha256 for _, path in self._paths(init, lead)]
        return hashlib.blake2b(" ".join(said).encode(), digest_size=16).hexdigest()

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        paths = [path for _, path in self._paths(init, lead)]
        self._held = {
            path: self._held[path] if path in self._held else self._decode(path, init, lead) for path in paths
        }
        index = self._truth.variables.index(variable)
        return np.stack([self._held[path].values[index] for path in paths])

    def _paths(self, init: Hour, lead: int) -> list[tuple[Member, Path]]:
        return [(member, self._archive.root / archive_path(member.file)) for member in self._members(init, lead)]

    def _decode(self, path: Path, init: Hour, lead: int) -> DecodedFields:
        file = next(member.file for member, its in self._paths(init, lead) if its == path)
        fields = decode_hour(path, valid=file.valid, lead=file.lead, variables=self._truth.variables)
        if fields.simulated:
            raise DamagedFileError(f"{path} is of the simulated world", advice="run `convcast fetch` again")
        there, wanted = fields.grid, self._grid
        if not there.covers(wanted):
            raise DamagedFileError(f"{path} does not cover the truth's part of the HRRR grid")
        top, left = wanted.y0 - there.y0, wanted.x0 - there.x0
        return fields.crop(slice(top, top + wanted.ny), slice(left, left + wanted.nx))
