"""Scores of ensembles: sums over points and cases, the formulas of scores, and bootstrap intervals.

`from convcast.metrics import crps_ensemble` gives the scores of xarray objects. They are imported at first use, since
they import numba and xarray, which an hourly run does not need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convcast.metrics.xarray_api import (
        brier_score,
        crps_ensemble,
        energy_score,
        fractions_skill_score,
        rank_histogram,
        reliability,
        roc_area,
        spread_error_correlation,
        spread_error_ratio,
    )

MODEL = "convcast"
"""Name of the system whose forecasts are verified, in every table of scores; the others are baselines."""

__all__ = [
    "brier_score",
    "crps_ensemble",
    "energy_score",
    "fractions_skill_score",
    "rank_histogram",
    "reliability",
    "roc_area",
    "spread_error_correlation",
    "spread_error_ratio",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from convcast.metrics import xarray_api

        return getattr(xarray_api, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
