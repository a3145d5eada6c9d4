"""REFS by its members, as a baseline: RRFS and HRRR forecasts, now and six hours old, all of one weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import open_archives
from convcast.archive.reference_ensembles import Member, cycle_of, refs_members
from convcast.errors import DamagedFileError, MissingInputError
from convcast.notation import HOUR, Hour
from convcast.variables import Variable
from convcast.verification.baselines.archived import fingerprint, held, read_message
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

MOST_OFTEN = 0.5
"""Share of the cases in which a member must be there to count as one of the ensemble's."""


class ReferenceMembers:
    """The members of REFS that were fetched, of the last cycle that a case could know.

    An ensemble has the same members in every case, else it is no one ensemble: those that most cases have. A case that
    lacks one of them does not count; a field that fewer than two of them have is not compared.
    """

    name = "refs"

    def __init__(self, truth: Truth, workspace: Workspace, cases: Sequence[tuple[Hour, int]]) -> None:
        """Raises MissingInputError where no case has two members of any field."""
        assert truth.place.grid is not None
        self._truth, self._grid = truth, truth.place.grid
        self._archives = open_archives(workspace.archive)
        self._held: dict[tuple[Hour, int], dict[str, frozenset[str]]] = {}
        self._recent: dict[tuple[str, Hour, int], NDArray[np.float32]] = {}
        names = [variable.name for variable in truth.variables]
        counts = {name: Counter[str]() for name in names}
        some = 0
        for case in cases:
            there = self._there(*case)
            some += any(there.values())
            for name in names:
                counts[name].update(member for member, fields in there.items() if name in fields)
        self._members = {
            name: [member for member, count in counts[name].items() if count >= MOST_OFTEN * max(some, 1)]
            for name in names
        }
        if all(len(members) < 2 for members in self._members.values()):
            raise MissingInputError(
                "the archive holds no members of REFS for these forecasts", advice=f"run `{self.remedy(cases)}`"
            )

    @property
    def described(self) -> str:
        """Which members of which fields."""
        sizes: dict[int, list[str]] = {}
        for name, members in self._members.items():
            sizes.setdefault(len(members), []).append(name.upper())
        each = "; ".join(f"{size} for {' '.join(names)}" for size, names in sizes.items())
        return f"REFS is compared by its members, of the last of its cycles at each start: {each}"

    def missing(self, init: Hour, lead: int) -> str | None:
        there = self._there(init, lead)
        for name, members in self._members.items():
            absent = [member for member in members if name not in there.get(member, ())]
            if len(members) > 1 and absent:
                return f"the archive lacks {name} of {', '.join(absent)} of REFS for {init + lead * HOUR}"
        return None

    def lacks(self, variable: Variable) -> str | None:
        count = len(self._members[variable.name])
        return None if count > 1 else f"{count} of its members {'has' if count == 1 else 'have'} it"

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        return fetch_command("refs", self._truth, cases)

    def fingerprint(self, init: Hour, lead: int) -> str:
        used = {member for members in self._members.values() for member in members}
        return fingerprint(self._archives, [m.file for m in self._all(init, lead) if m.name in used])

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        chosen = [m for m in self._all(init, lead) if m.name in self._members[variable.name]]
        return np.stack([self._field(variable, member) for member in chosen])

    def _field(self, variable: Variable, member: Member) -> NDArray[np.float32]:
        header, values = read_message(self._archives, member.file, variable.name, variable.grib_keys)
        there, wanted = header.grid(), self._grid
        if not there.covers(wanted):
            raise DamagedFileError(f"{member.name} does not cover the truth's part of the HRRR grid")
        top, left = wanted.y0 - there.y0, wanted.x0 - there.x0
        return values[top : top + wanted.ny, left : left + wanted.nx]

    def _all(self, init: Hour, lead: int) -> tuple[Member, ...]:
        return refs_members(*cycle_and_lead(self._truth, init, lead))

    def _there(self, init: Hour, lead: int) -> dict[str, frozenset[str]]:
        """Fields in the archive by member."""
        if (init, lead) not in self._held:
            self._held[init, lead] = {m.name: held(self._archives, m.file) for m in self._all(init, lead)}
        return self._held[init, lead]


def cycle_and_lead(truth: Truth, init: Hour, lead: int) -> tuple[Hour, int]:
    """The last cycle of REFS or HREF that began by a case's analysis, and hours from it to the valid time."""
    cycle = cycle_of(init - truth.analysis_lead * HOUR)
    return cycle, int((init + lead * HOUR - cycle) / HOUR)


def fetch_command(system: str, truth: Truth, cases: Sequence[tuple[Hour, int]]) -> str:
    leads = sorted({cycle_and_lead(truth, *case)[1] for case in cases})
    valid = [init + lead * HOUR for init, lead in cases]
    ahead = ",".join(map(str, leads))
    return f"convcast fetch --what {system} --leads {ahead} --start {min(valid)} --end {max(valid)}"
