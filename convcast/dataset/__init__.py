"""Datasets: archived GRIB files become a Zarr store of checked hours, with statistics, splits and samples."""

from typing import TYPE_CHECKING, Any

from convcast.dataset.cases.motion import advect, estimate_motion
from convcast.dataset.cases.optical_flow import estimate_local_motion
from convcast.dataset.cases.sun import Sun
from convcast.dataset.cases.windows import (
    Window,
    Windows,
    domain_motion,
    shuffled_indices,
    sun_of,
    usable_inits,
    window,
)
from convcast.dataset.dataset import Dataset
from convcast.dataset.forcing.preprocess import ForecastVerdict, preprocess_forcing
from convcast.dataset.layout import HourStatus
from convcast.dataset.preprocessing.preprocess import HourVerdict, preprocess
from convcast.dataset.split import Split, split_hours
from convcast.dataset.statistics import FieldStatistics

if TYPE_CHECKING:
    from convcast.dataset.view import open_dataset

__all__ = [
    "Dataset",
    "FieldStatistics",
    "ForecastVerdict",
    "HourStatus",
    "HourVerdict",
    "Split",
    "Sun",
    "Window",
    "Windows",
    "advect",
    "domain_motion",
    "estimate_local_motion",
    "estimate_motion",
    "open_dataset",
    "preprocess",
    "preprocess_forcing",
    "shuffled_indices",
    "split_hours",
    "sun_of",
    "usable_inits",
    "window",
]


def __getattr__(name: str) -> Any:
    """Import `open_dataset` on first use, since it imports xarray, which hourly runs do not need."""
    if name == "open_dataset":
        from convcast.dataset.view import open_dataset

        return open_dataset
    raise AttributeError(f"module {__name__} has no attribute {name}")
