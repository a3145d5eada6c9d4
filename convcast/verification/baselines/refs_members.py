"""Members of reference ensembles as baselines, equally weighted: those of REFS, and those of HRRRCast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import open_archives
from convcast.archive.reference_ensembles import Member, cycle_of, hrrrcast_members, refs_members
from convcast.errors import MissingInputError
from convcast.notation import HOUR, Hour
from convcast.variables import Variable
from convcast.verification.baselines.archived import available_messages, fingerprint, read_message, window_of_truth
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

MIN_AVAILABILITY = 0.5
"""Minimum fraction of the cases for which a member must be available to belong to the ensemble."""


class ReferenceMembers(Baseline):
    """Members of REFS in the archive: RRFS and HRRR forecasts of the last cycle before each case and of the one before.

    Every case has the same members: those that most cases have. A case that lacks one of them is left out; a field that
    fewer than two of them have is not compared.
    """

    name = "refs"
    title = "REFS"
    cycles = "of the last of its cycles at each start"

    def __init__(self, truth: Truth, workspace: Workspace, cases: Sequence[tuple[Hour, int]]) -> None:
        """Choose the members that most cases have.

        Args:
            truth: The truth, which must be on the HRRR grid.
            workspace: The workspace, which has the archive.
            cases: Initial time and lead, hours, of the cases.

        Raises:
            MissingInputError: No field has two members.
        """
        assert truth.points.grid is not None
        self._truth, self._grid = truth, truth.points.grid
        self._archives = open_archives(workspace.archive)
        self._held: dict[tuple[Hour, int], dict[str, frozenset[str]]] = {}
        self._recent: dict[tuple[str, Hour, int], NDArray[np.float32]] = {}
        names = [variable.name for variable in truth.variables]
        counts = {name: Counter[str]() for name in names}
        some = 0
        for case in cases:
            available = self._available(*case)
            some += any(available.values())
            for name in names:
                counts[name].update(member for member, fields in available.items() if name in fields)
        self._members = {
            name: [member for member, count in counts[name].items() if count >= MIN_AVAILABILITY * max(some, 1)]
            for name in names
        }
        if all(len(members) < 2 for members in self._members.values()):
            raise MissingInputError(
                f"the archive holds no members of {self.title} for these forecasts",
                advice=f"run `{self.remedy(cases)}`",
            )

    @property
    def described(self) -> str:
        """Return a sentence on the number of members by field."""
        sizes: dict[int, list[str]] = {}
        for name, members in self._members.items():
            sizes.setdefault(len(members), []).append(name.upper())
        each = "; ".join(f"{size} for {' '.join(names)}" for size, names in sizes.items())
        return f"{self.title} is compared by its members, {self.cycles}: {each}"

    def missing(self, init: Hour, lead: int) -> str | None:
        available = self._available(init, lead)
        for name, members in self._members.items():
            absent = [member for member in members if name not in available.get(member, ())]
            if len(members) > 1 and absent:
                return f"the archive lacks {name} of {', '.join(absent)} of {self.title} for {init + lead * HOUR}"
        return None

    def lacks(self, variable: Variable) -> str | None:
        count = len(self._members[variable.name])
        return None if count > 1 else f"{count} of its members {'has' if count == 1 else 'have'} it"

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        return fetch_command(self.name, self._truth, cases)

    def fingerprint(self, init: Hour, lead: int) -> str:
        used = {member for members in self._members.values() for member in members}
        return fingerprint(self._archives, [m.file for m in self._all(init, lead) if m.name in used])

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        chosen = [m for m in self._all(init, lead) if m.name in self._members[variable.name]]
        return np.stack([self._field(variable, member) for member in chosen])

    def _field(self, variable: Variable, member: Member) -> NDArray[np.float32]:
        header, values = read_message(
            self._archives, member.file, variable.name, variable.grib_keys, simulated=self._truth.simulated
        )
        return values[window_of_truth(header.grid(), self._grid, member.name)]

    def _all(self, init: Hour, lead: int) -> tuple[Member, ...]:
        return refs_members(*cycle_and_lead(self.name, self._truth, init, lead))

    def _available(self, init: Hour, lead: int) -> dict[str, frozenset[str]]:
        """Return the fields in the archive by member."""
        if (init, lead) not in self._held:
            self._held[init, lead] = {m.name: available_messages(self._archives, m.file) for m in self._all(init, lead)}
        return self._held[init, lead]


class HrrrcastMembers(ReferenceMembers):
    """Members of HRRRCast in the archive, of the cycle that the case starts from.

    HRRRCast is published five to seven hours after its cycle, so this compares the systems, not what users have in
    time.
    """

    name = "hrrrcast"
    title = "HRRRCast"
    cycles = "of the cycle that each forecast starts from"

    def _all(self, init: Hour, lead: int) -> tuple[Member, ...]:
        return hrrrcast_members(*cycle_and_lead(self.name, self._truth, init, lead))


def cycle_and_lead(system: str, truth: Truth, init: Hour, lead: int) -> tuple[Hour, int]:
    """Return a system's last cycle up to a case's analysis, and the hours from it to the valid time.

    HRRRCast has a cycle each hour, REFS and HREF have one every six hours.

    Args:
        system: `refs`, `href` or `hrrrcast`.
        truth: The truth, which has the lead of the files that serve as analyses.
        init: Initial time of the case.
        lead: Lead time of the case, hours.
    """
    analysed = init - truth.analysis_lead * HOUR
    cycle = analysed if system == "hrrrcast" else cycle_of(analysed)
    return cycle, int((init + lead * HOUR - cycle) / HOUR)


def fetch_command(system: str, truth: Truth, cases: Sequence[tuple[Hour, int]]) -> str:
    """Return the command that fetches a reference ensemble for these cases.

    Args:
        system: `refs`, `href` or `hrrrcast`.
        truth: The truth, which has the lead of the files that serve as analyses.
        cases: Initial time and lead, hours, of the cases; at least one.
    """
    leads = sorted({cycle_and_lead(system, truth, *case)[1] for case in cases})
    valid = [init + lead * HOUR for init, lead in cases]
    ahead = ",".join(map(str, leads))
    return f"convcast fetch --what {system} --leads {ahead} --start {min(valid)} --end {max(valid)}"
