"""The dataset room: from archived GRIB to one Zarr of checked hours, its statistics, splits and samples."""

from typing import TYPE_CHECKING, Any

from convcast.dataset.dataset import Dataset
from convcast.dataset.motion import advect, estimate_motion
from convcast.dataset.preprocess import HourVerdict, preprocess
from convcast.dataset.quality import Finding, examine
from convcast.dataset.split import Split, divide
from convcast.dataset.statistics import Statistics
from convcast.dataset.store import Status
from convcast.dataset.sun import Sun
from convcast.dataset.windows import Window, Windows, shuffled, usable_inits, window

if TYPE_CHECKING:
    from convcast.dataset.view import open_dataset

__all__ = [
    "Dataset",
    "Finding",
    "HourVerdict",
    "Split",
    "Statistics",
    "Status",
    "Sun",
    "Window",
    "Windows",
    "advect",
    "divide",
    "estimate_motion",
    "examine",
    "open_dataset",
    "preprocess",
    "shuffled",
    "usable_inits",
    "window",
]


def __getattr__(name: str) -> Any:
    """`open_dataset` brings xarray along, which an hourly run can do without."""
    if name == "open_dataset":
        from convcast.dataset.view import open_dataset

        return open_dataset
    raise AttributeError(f"module {__name__} has no attribute {name}")
