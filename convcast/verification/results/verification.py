"""The result of a verification: scores, facts about them, and the case that is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast import __version__
from convcast.metrics import MODEL
from convcast.metrics.bootstrap import FEW_DAYS
from convcast.notation import Hour
from convcast.variables import Variable
from convcast.verification.crosscheck import Agreement
from convcast.verification.data.gridded_files.points import Points
from convcast.verification.results.accumulator import Accumulator, valid
from convcast.verification.results.table import Row, find, verdict

SCHEMA = 2


@dataclass(frozen=True)
class Facts:
    """Facts about a verification: systems, cases, truth and settings."""

    simulated: bool
    truth: str
    """Name of the truth, for people."""
    systems: tuple[str, ...]
    leads: tuple[int, ...]
    inits: tuple[str, ...]
    days: int
    """Number of UTC days of initial times, which are resampled."""
    members: int
    cases: int
    """Number of (initial time, lead) pairs that all systems forecast."""
    points: int
    analysis_lead: int
    left_out: dict[str, int]
    """Number of cases not scored, by reason."""
    not_compared: tuple[str, ...]
    """Sentences about fields that a baseline lacks, or that cannot be compared fairly."""
    products: tuple[str, ...]
    """Systems that are compared by their published products."""
    notes: tuple[str, ...]
    """Sentences about how reference ensembles are compared."""
    confidence: float
    resamples: int
    seed: int
    models: tuple[str, ...]
    files: tuple[dict[str, Any], ...] = ()
    """Reports on files of other programs: the variable of each field, and what is not scored, with the reason."""

    window: tuple[int, ...] = ()
    """Leads over which extremes are scored as one quantity, hours; empty if each lead is scored."""

    def when(self, lead: int) -> str:
        """Name a lead in titles: `at 6 h`, or where events at several leads are scored as one `at any of 1, 6 h`."""
        return f"at any of {', '.join(map(str, self.window))} h" if self.window else f"at {lead} h"

    @property
    def few_days(self) -> bool:
        return self.days < FEW_DAYS


@dataclass(frozen=True)
class CaseShown:
    """The case that is drawn: the scored case with the largest observed area of the event."""

    variable: Variable
    threshold: float
    area: float
    """Share of the domain with the observed event."""
    among: int
    init: Hour
    lead: int
    observed: NDArray[np.float32]
    """Observations, (y, x)."""
    members: NDArray[np.float32]
    """Members, (member, y, x)."""
    points: Points

    @property
    def valid(self) -> Hour:
        return valid(self.init, self.lead)


@dataclass(frozen=True)
class Verification:
    """The result of a verification: rows of scores, facts, sums and the case that is drawn."""

    scores: list[Row]
    facts: Facts
    variables: tuple[Variable, ...]
    accumulator: Accumulator
    agreement: Agreement
    case: CaseShown
    beside: tuple[tuple[str, Verification], ...] = ()
    """Verifications of the same forecasts by other truths, with the names of the truths."""

    def find(self, field: str, score: str, system: str, **more: Any) -> Row | None:
        """Find the first row with these entries, of the shortest lead by default; None if there is none.

        Args:
            field: Name of the field.
            score: Name of the score.
            system: Name of the system.
            more: Further entries that the row must have, `lead_hours` for example.
        """
        return find(self.scores, field=field, score=score, system=system, **more)

    def scored(self, lead: int) -> tuple[Variable, ...]:
        """Return the fields that have scores at a lead: those with a point that the truth and all systems have."""
        return tuple(v for v in self.variables if (MODEL, v.name, lead) in self.accumulator.days)

    def verdict(self, field: str, lead: int, against: str = "advection") -> str:
        """Compare fair CRPS by the paired interval: `better`, `worse`, `no clear difference` or `no interval`.

        Args:
            field: Name of the field.
            lead: Lead time, hours.
            against: Name of the baseline with which convcast is compared.
        """
        wanted = {"lead_hours": lead, "reference": against}
        return verdict(find(self.scores, field=field, score="crps_difference", **wanted))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of scores.json."""
        return {
            "schema": SCHEMA,
            "convcast_version": __version__,
            "facts": asdict(self.facts) | {"few_days": self.facts.few_days},
            "check": asdict(self.agreement),
            "beside": {name: asdict(other.facts) for name, other in self.beside},
            "scores": [
                *self.scores,
                *(row | {"truth": name} for name, other in self.beside for row in other.scores),
            ],
        }
