"""The HRRR forecasts that force a model, which are valid at its target time and come from the newest cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convcast.archive import locations
from convcast.archive.archive import Archive
from convcast.archive.messages.spec import fields
from convcast.archive.request import Request
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import HRRR_LONGEST_LEAD, ModelSettings
from convcast.variables import Variable

SHORT_CYCLE_LEAD = 18
"""Longest lead time, in hours, of HRRR's cycles other than 00, 06, 12 and 18 UTC."""


def longest_lead(cycle: Hour) -> int:
    """Return the longest lead time of an HRRR cycle, hours: 48 at 00, 06, 12 and 18 UTC, and 18 at other hours."""
    return HRRR_LONGEST_LEAD if int(cycle.astype("datetime64[h]").astype(np.int64)) % 6 == 0 else SHORT_CYCLE_LEAD


@dataclass(frozen=True, order=True)
class HrrrForecast:
    """One HRRR forecast."""

    cycle: Hour
    lead: int
    """Hours ahead of the cycle."""

    def __str__(self) -> str:
        return f"{self.cycle} + {self.lead} h"


@dataclass(frozen=True)
class Forcing:
    """The HRRR forecasts that force a model, by lead and age."""

    leads: tuple[int, ...]
    """Lead times of the model, hours."""
    ages: tuple[int, ...]
    """Ages of the cycles relative to the init time's own cycle, hours, ascending."""
    analysis_lead: int = 0
    """Lead time of the files that serve as analyses, hours; the cycle of an init time is as many hours older."""

    @classmethod
    def of(cls, model: ModelSettings, analysis_lead: int) -> Forcing | None:
        """Return the forcing of a model with these settings; None if it has none."""
        return cls(model.leads, model.forcing_ages, analysis_lead) if model.forced else None

    @property
    def hrrr_leads(self) -> tuple[int, ...]:
        """Lead times of the HRRR forecasts that are needed, hours, ascending."""
        return tuple(sorted({lead + self.analysis_lead + age for lead in self.leads for age in self.ages}))

    def possible_ages(self, lead: int) -> tuple[int, ...]:
        """Return the ages at which the longest HRRR cycles have a forecast for a lead of the model, all in hours."""
        return tuple(age for age in self.ages if lead + self.analysis_lead + age <= HRRR_LONGEST_LEAD)

    def forecast(self, init: Hour, lead: int, age: int) -> HrrrForecast | None:
        """Return the forecast valid `lead` hours after `init` from the cycle of this age; None if HRRR has none."""
        ahead = self.analysis_lead + age
        cycle = init.astype("datetime64[h]") - ahead * HOUR
        return HrrrForecast(cycle, lead + ahead) if lead + ahead <= longest_lead(cycle) else None

    def needed(self, inits: Hours | Sequence[Hour]) -> tuple[HrrrForecast, ...]:
        """Return the forecasts that these init times need at all leads and ages, in order and without repeats."""
        every = (self.forecast(i, lead, age) for i in inits for lead in self.leads for age in self.ages)
        return tuple(sorted({forecast for forecast in every if forecast is not None}))

    def archived(self, archive: Archive) -> dict[HrrrForecast, Path]:
        """Return the forecasts of `hrrr_leads` that the archive holds, with their files."""
        return {
            HrrrForecast(valid - lead * HOUR, lead): archive.path(valid, lead)
            for lead in self.hrrr_leads
            for valid in archive.hours(lead)
        }

    def requests(
        self, archive: Archive, inits: Hours | Sequence[Hour], variables: Sequence[Variable]
    ) -> tuple[Request, ...]:
        """Return requests for the files of the forecasts that these init times need.

        Args:
            archive: Archive of HRRR's files.
            inits: Initial times.
            variables: Fields of the forecasts.
        """
        specs = fields(variables)
        needed = self.needed(inits)
        return tuple(Request(locations.hrrr(each.cycle, each.lead), specs, archive) for each in needed)
