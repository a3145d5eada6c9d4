"""Accumulated statistics of scored cases: complete ones by day, and sums by case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from convcast.metrics.sums import Floats, Statistics
from convcast.notation import HOUR, Hour
from convcast.verification.baselines.published import ComparisonSums

Key = tuple[str, str, int]
"""System, field, lead in hours."""
Day = np.datetime64


class Accumulator:
    """Statistics of any number of cases. Memory grows with days (tables) and cases (a few sums)."""

    def __init__(self) -> None:
        self.days: dict[Key, dict[Day, Statistics]] = {}
        self.cases: dict[Key, dict[Hour, dict[str, Floats]]] = {}
        self.compared: dict[Key, dict[Hour, ComparisonSums]] = {}
        """Comparisons with published products, by the name of their system."""

    def add(self, system: str, field: str, lead: int, init: Hour, statistics: Statistics) -> None:
        """Add one case, under the UTC day of its initial time.

        Args:
            system: Name of the system.
            field: Name of the field.
            lead: Lead time, hours.
            init: Initial time.
            statistics: Statistics of the case.
        """
        key = (system, field, lead)
        days, day = self.days.setdefault(key, {}), init.astype("datetime64[D]")
        days[day] = days[day] + statistics if day in days else statistics
        self.cases.setdefault(key, {})[init] = statistics.sums

    def daily(self, system: str, field: str, lead: int) -> list[Statistics]:
        """Return the statistics by day, in order.

        The arguments are those of `add`.
        """
        days = self.days[system, field, lead]
        return [days[day] for day in sorted(days)]

    def total(self, system: str, field: str, lead: int | None = None) -> Statistics:
        """Return the statistics of all days, and of all leads if none is given.

        The arguments are those of `add`.
        """
        parts = [
            statistics
            for (s, f, at), days in self.days.items()
            if (s, f) == (system, field) and lead in (None, at)
            for statistics in days.values()
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def dataset(self, units: Mapping[str, str]) -> xr.Dataset:
        """Return the scores of every case, (system, field, lead_time, init_time), NaN where there is no such case."""
        systems = list(dict.fromkeys(key[0] for key in self.cases))
        fields = list(dict.fromkeys(key[1] for key in self.cases))
        leads = sorted({key[2] for key in self.cases})
        inits = sorted({init for cases in self.cases.values() for init in cases})
        names = {
            "crps": "fair CRPS",
            "crps_ensemble": "CRPS of the members as they are",
            "error": "mean error of the ensemble mean",
            "rmse": "root mean squared error of the ensemble mean",
            "spread": "root mean unbiased variance of the members",
        }
        shape = len(systems), len(fields), len(leads), len(inits)
        data = {name: np.full(shape, np.nan) for name in (*names, "points")}
        for (system, field, lead), cases in self.cases.items():
            for init, sums in cases.items():
                at = systems.index(system), fields.index(field), leads.index(lead), inits.index(init)
                data["points"][at] = sums["points"]
                if sums["points"]:
                    data["crps"][at] = sums["crps_fair"] / sums["points"]
                    data["crps_ensemble"][at] = sums["crps_ensemble"] / sums["points"]
                    data["error"][at] = sums["error"] / sums["points"]
                    data["rmse"][at] = np.sqrt(sums["squared_error"] / sums["points"])
                    data["spread"][at] = np.sqrt(sums["variance"] / sums["points"])
        dimensions = ("system", "field", "lead_time", "init_time")
        start = np.array(inits, "datetime64[ns]")
        steps = np.array(leads, "timedelta64[h]").astype("timedelta64[ns]")
        return xr.Dataset(
            {name: (dimensions, values, {"long_name": names.get(name, name)}) for name, values in data.items()},
            {
                # Objects, since Zarr v3 has no stable form of texts of fixed length.
                "system": np.array(systems, object),
                "field": np.array(fields, object),
                "units": ("field", np.array([units[field] for field in fields], object)),
                "lead_time": ("lead_time", steps, {"standard_name": "forecast_period"}),
                "init_time": ("init_time", start, {"standard_name": "forecast_reference_time"}),
                "valid_time": (("lead_time", "init_time"), steps[:, None] + start, {"standard_name": "time"}),
            },
        )


def valid(init: Hour, lead: int) -> Hour:
    return init + lead * HOUR
