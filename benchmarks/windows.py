"""Random training windows of a CONUS dataset: from the Zarr, and from the cache that is mapped into memory.

    python benchmarks/windows.py --repeats 40

A window is five hours of seven fields on 256 x 256 cells, at random in twelve hours of the whole domain. Contenders
take turns in one process, each with the same windows; means over the repeats, files in the page cache. `zarr-python`
reads the integers and does nothing else; so do zarrs and tensorstore, which are compared where they are installed
(`pip install zarrs tensorstore`). Each of these three is also tried in a forked process after the parent has read.
`convcast` looks up which hours are there, reads and checks checksums. A training case is read by threads as
integers, with its terrain, sun and motion, and prepared (standardised, advected, with its reference forecast) by the
device that trains. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from convcast.dataset import Dataset, Windows, open_dataset, usable_inits
from convcast.dataset.cases import windows
from convcast.dataset.layout import DatasetDescription, HourStatus, index
from convcast.dataset.store import Store
from convcast.grid import CONUS
from convcast.model.training.batches import Cases
from convcast.model.training.orientation import orientations
from convcast.notation import HOUR
from convcast.operations.speed import made_up
from convcast.settings.load import load_settings
from convcast.variables import FIELDS

START = np.datetime64("2024-05-06T00", "h")
HOURS = 12
PATCH = 256
FORK_PATIENCE = 20
"""Seconds after which a forked process that reads one window is taken to hang."""


def publish(path: Path) -> None:
    """Smooth fields that move, with noise of the last two bits, so that files are as large as those of real hours."""
    generator = np.random.default_rng(0)
    variables = tuple(FIELDS.values())
    static = np.stack([generator.normal(500, 100, CONUS.shape), np.ones(CONUS.shape)]).astype(np.float32)
    store = Store.create(path, DatasetDescription(variables, CONUS, True, 0), static)
    pattern = gaussian_filter(generator.normal(size=CONUS.shape), 8, mode="wrap")
    pattern /= pattern.std()
    for hour in range(HOURS):
        moved = np.roll(pattern, (2 * hour, 5 * hour), (0, 1))
        fields = []
        for variable in variables:
            low, high = variable.display
            field = (low + high) / 2 + (high - low) / 8 * moved + generator.integers(0, 4, CONUS.shape) / variable.scale
            if variable.name in ("refc", "cape", "cin"):
                rest = variable.bounds[0] if variable.name == "refc" else 0
                field = np.where(moved > 0.5, field, rest)
            fields.append(field)
        store.write_hour(START + hour * HOUR, np.stack(fields).astype(np.float32))
    store.write_status(START + np.arange(HOURS) * HOUR, HourStatus.OK, [])


def places(count: int) -> list[tuple[int, slice, slice]]:
    generator = np.random.default_rng(1)
    drawn = generator.integers((HOURS - 5, CONUS.ny - PATCH, CONUS.nx - PATCH), size=(count, 3))
    return [(int(t), slice(y, y + PATCH), slice(x, x + PATCH)) for t, y, x in drawn.tolist()]


def reading(path: Path, cache: Path, repeats: int) -> dict[str, tuple[float, float]]:
    plain, through, view = Dataset.open(path), Dataset.open(path, cache=cache), open_dataset(path)
    array, first = plain.store._data, index(START)
    hours = plain.hours
    through.read_stored(hours)

    def bare(t: int, rows: slice, columns: slice) -> None:
        array[first + t : first + t + 5, :, rows, columns]

    def by_view(t: int, rows: slice, columns: slice) -> None:
        view[[*FIELDS]].isel(time=slice(t, t + 5), y=rows, x=columns).load()

    contenders: dict[str, Callable[[int, slice, slice], object]] = {
        "zarr-python alone": bare,
        "convcast, Zarr": lambda t, rows, columns: plain.read_stored(hours[t : t + 5], rows, columns),
        "convcast, cache": lambda t, rows, columns: through.read_stored(hours[t : t + 5], rows, columns),
        "convcast, xarray view (float32)": by_view,
    }
    return timed(contenders, repeats)


def timed(contenders: dict[str, Callable[[int, slice, slice], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of a processor and of time that each contender takes for a window."""
    total = {name: np.zeros(2) for name in contenders}
    for place in places(repeats):
        for name, read in contenders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            read(*place)
            total[name] += time.process_time() - cpu, time.perf_counter() - wall
    return {name: tuple(1e3 * spent / repeats) for name, spent in total.items()}


def readers(path: Path) -> dict[str, Callable[[int, slice, slice], object]]:
    """Readers of the integers alone: zarr-python, and others that are installed."""
    first, found = index(START), {"zarr-python": Dataset.open(path).store._data}
    if importlib.util.find_spec("zarrs"):
        import zarrs  # noqa: F401  registers its pipeline
        from zarr import config, open_array

        with config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            found["zarrs"] = open_array(path / "data", mode="r")
    if importlib.util.find_spec("tensorstore"):
        import tensorstore

        store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "data")}}
        found["tensorstore"] = tensorstore.open(store).result()

    def read(array: Any, t: int, rows: slice, columns: slice) -> object:
        return np.asarray(array[first + t : first + t + 5, :, rows, columns])

    return {name: partial(read, array) for name, array in found.items()}


def survives_fork(read: Callable[[int, slice, slice], object]) -> str:
    """Say whether a forked process can read after its parent has read."""
    place = places(1)[0]
    read(*place)
    process = multiprocessing.get_context("fork").Process(target=read, args=place)
    process.start()
    process.join(FORK_PATIENCE)
    if process.is_alive():
        process.kill()
        return f"no: hangs for {FORK_PATIENCE} s"
    return "yes" if process.exitcode == 0 else f"no: exit code {process.exitcode}"


def cases(path: Path, cache: Path, repeats: int) -> dict[str, float]:
    """Milliseconds of a processor that phase 1 takes for a training case."""
    settings = load_settings(preset="phase1")
    residuals = made_up.description(settings).residuals
    spent = {}
    windows.IN_MEMORY = 0  # as with a dataset that does not fit
    for name, dataset in {"Zarr": Dataset.open(path), "cache": Dataset.open(path, cache=cache)}.items():
        inits = usable_inits(dataset.hours, history=4, leads=(1,))
        drawn = Windows(
            dataset, inits, leads=(1,), history=4, patch=PATCH, seed=0, augment=True, convective=0.5, stored=True
        )
        turns = orientations(settings.training.augmentation)
        made = Cases(drawn, residuals, inputs=settings.model.inputs, roll=False, orientations=turns, seed=0)
        for number in range(len(made)):
            made.drawn(number)  # the motion of each hour is estimated once
        started = time.process_time()
        for number in range(repeats):
            made.drawn(number)
        spent[f"read from the {name}"] = 1e3 * (time.process_time() - started) / repeats
    case, few = made.drawn(0), 3
    started = time.process_time()
    for _ in range(few):
        made.prepared(case)
    spent["prepared, where a CPU does it"] = 1e3 * (time.process_time() - started) / few
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "dataset.zarr", Path(folder) / "cache"
        publish(path)
        size = sum(file.stat().st_size for file in (path / "data").rglob("*") if file.is_file()) / HOURS
        print(
            f"{size / 1e6:.1f} MB an hour, {4 * len(FIELDS) * CONUS.ny * CONUS.nx / size:.2f} times less than float32\n"
        )
        times = reading(path, cache, repeats)
        least = times["zarr-python alone"]
        print("| reading a window | ms of CPU | ms | ratio of CPU |\n|---|---|---|---|")
        for name, (cpu, wall) in times.items():
            print(f"| {name} | {cpu:.1f} | {wall:.1f} | {cpu / least[0]:.2f} |")
        alone = readers(path)
        times = timed(alone, repeats)
        print("\n| reader of the integers | ms of CPU | ms | reads after a fork |\n|---|---|---|---|")
        for name, (cpu, wall) in times.items():
            print(f"| {name} | {cpu:.1f} | {wall:.1f} | {survives_fork(alone[name])} |", flush=True)
        print("\n| a training case | ms of CPU | a second and core |\n|---|---|---|")
        for name, spent in cases(path, cache, repeats).items():
            print(f"| {name} | {spent:.1f} | {1e3 / spent:.1f} |")


if __name__ == "__main__":
    main()
