"""Read a workspace after a run was killed, and compare complete files with those of an undisturbed run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr

from convcast.archive import Archive
from convcast.dataset import Dataset, HourStatus
from convcast.workspace import Workspace


def compare(root: Path, expected: Path) -> int:
    """Return an exit code: 0 if all files that count as complete are."""
    if not root.exists():
        return 0
    there, whole = Workspace(root), Workspace(expected)
    wrong = [*json_files(root), *archive(there, whole), *dataset(there, whole)]
    for path in sorted(there.forecasts.glob("*.zarr")):
        wrong += ensemble(path, whole.forecasts / path.name)
    for path in sorted(there.products.glob("[!.]*.zarr")):
        wrong += products(path, whole.products / path.name)
    for path in sorted((root / "models").glob("*/model.json")):
        model(path.parent)
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return int(bool(wrong))


def json_files(root: Path) -> Iterator[str]:
    for path in root.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            yield f"{path.relative_to(root)} is not JSON"


def archive(there: Workspace, whole: Workspace) -> Iterator[str]:
    held, wanted = (Archive(place.archive / "hrrr") for place in (there, whole))
    for hour in held.hours(0):
        path, other = held.path(hour, 0), wanted.path(hour, 0)
        if other.exists() and path.read_bytes() != other.read_bytes():
            yield f"{path} counts as whole and is not"


def dataset(there: Workspace, whole: Workspace) -> Iterator[str]:
    if not there.dataset.exists():
        return
    held, wanted = Dataset.open(there.dataset), Dataset.open(whole.dataset)
    for hour in set(held.hours.tolist()) & set(wanted.hours.tolist()):
        hours = [np.datetime64(hour, "h")]
        if not np.array_equal(held.read(hours), wanted.read(hours), equal_nan=True):
            yield f"the dataset's {hour} counts as whole and is not"
    ok = [{f for f, code in each.forecast_status.items() if code == HourStatus.OK} for each in (held, wanted)]
    for forecast in set.intersection(*ok):
        if not np.array_equal(held.read_forecast(forecast), wanted.read_forecast(forecast), equal_nan=True):
            yield f"the dataset's HRRR forecast of {forecast} counts as whole and is not"


def ensemble(path: Path, wanted: Path) -> Iterator[str]:
    if not wanted.exists():  # it is being pruned
        return
    held, whole = (zarr.open_group(each, mode="r", use_consolidated=False) for each in (path, wanted))
    complete = np.asarray(held["complete"][0]) > 0
    for name, array in held.arrays():
        if array.ndim == 5:
            values, right = np.asarray(array[0]), np.asarray(whole[name][0])
            if not all(np.array_equal(values[m, lead], right[m, lead]) for m, lead in np.argwhere(complete)):
                yield f"{path.name} has complete members whose {name} is not"


def products(path: Path, wanted: Path) -> Iterator[str]:
    if not wanted.exists():
        return
    held, whole = (zarr.open_group(each, mode="r", use_consolidated=False) for each in (path, wanted))
    if dict(held.attrs).get("leads") != dict(whole.attrs).get("leads"):
        return
    for name, array in whole.arrays():
        if not np.array_equal(np.asarray(held[name][...]), np.asarray(array[...]), equal_nan=array.dtype.kind == "f"):
            yield f"{path.name} has its name, and its {name} is not whole"


def model(folder: Path) -> None:
    """Raise if there are weights that do not fit the described network."""
    from convcast.model import Forecaster

    if (folder / "model.safetensors").exists():
        Forecaster.load(folder)
