"""Random training windows of a CONUS dataset: from the Zarr, and from the cache that is mapped into memory.

    python benchmarks/windows.py --repeats 40

A window is five hours of seven fields on 256 x 256 cells, at random in twelve hours of the whole domain. Contenders
take turns in one process, each with the same windows; means over the repeats, files in the page cache. `zarr-python`
reads the integers and does nothing else; so do zarrs and tensorstore, which are compared where they are installed
(`pip install zarrs tensorstore`). Each of these three is also tried in a forked process after the parent has read.
`convcast` looks up which hours are there, reads and checks checksums. A training case is read by threads as
integers, with its terrain, sun and motion, and prepared (standardised, advected, with its reference forecast) by the
device that trains. A case of phase 2 has the forecast that forces it, too. Last, a loop that sleeps for as long as a
GPU would compute a batch (estimates) takes batches from the presets' threads, and notes how long it waits for them.
Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from convcast.archive import Forcing
from convcast.dataset import Dataset, Windows, domain_motion, open_dataset, usable_inits
from convcast.dataset.cases import windows
from convcast.dataset.forcing.store import ForcingStore
from convcast.dataset.layout import DatasetDescription, HourStatus, index
from convcast.dataset.store import Store
from convcast.grid import CONUS
from convcast.model.features.residual import Residuals
from convcast.model.training.batches import Cases, _ahead
from convcast.model.training.orientation import orientations
from convcast.notation import HOUR
from convcast.operations.speed import made_up
from convcast.settings import Settings
from convcast.settings.load import load_settings
from convcast.variables import FIELDS

START = np.datetime64("2024-05-06T00", "h")
HOURS = 12
PATCH = 256
LEADS = {1: (1,), 2: (1, 3)}
"""Lead times of the cases of each phase, which the few hours have; phase 2 itself has longer ones too."""
GPU_SECONDS = {1: {"RTX 4090": 0.22, "H100": 0.037}, 2: {"RTX 4090": 0.49, "H100": 0.082}}
"""ESTIMATES of the time of the network for a batch, by phase: counted FLOPs at 35 % of the makers' bfloat16 figures."""
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
    forcing = Forcing.of(preset_of(2).model, 0)
    assert forcing is not None
    needed = forcing.needed(usable_inits(START + np.arange(HOURS) * HOUR, history=4, leads=LEADS[2]))
    forecasts = ForcingStore.prepare(path)
    for number, forecast in enumerate(needed):
        forecasts.write(forecast, np.roll(np.stack(fields), number, -1).astype(np.float32))
    forecasts.commit(HourStatus.OK, needed, [])


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


def preset_of(phase: int) -> Settings:
    """The settings of a phase, for the leads that the few hours have."""
    return load_settings(flags={"model": {"leads": list(LEADS[phase])}}, preset=f"phase{phase}")


def cases_of(dataset: Dataset, settings: Settings, residuals: Residuals) -> Cases:
    """Training cases of a preset; the motion of each hour has been estimated."""
    windows.IN_MEMORY = 0  # as with a dataset that does not fit
    model = settings.model
    drawn = Windows(
        dataset,
        usable_inits(dataset.hours, history=model.history, leads=model.leads),
        leads=model.leads,
        history=model.history,
        patch=PATCH,
        seed=0,
        augment=True,
        convective=settings.training.convective,
        forcing=Forcing.of(model, 0),
        stored=True,
    )
    turns = orientations(settings.training.augmentation)
    withheld = model.forcing_dropout if model.forced else None
    made = Cases(drawn, residuals, inputs=model.inputs, roll=False, orientations=turns, withheld=withheld, seed=0)
    for number in range(len(made)):
        made.drawn(number)
    return made


def cases(path: Path, cache: Path, residuals: Residuals, repeats: int) -> dict[str, float]:
    """Milliseconds of a processor that a training case takes."""
    spent = {}

    def spend(name: str, run: Callable[[int], object], count: int) -> None:
        started = time.process_time()
        for number in range(count):
            run(number)
        spent[name] = 1e3 * (time.process_time() - started) / count

    datasets = {"Zarr": Dataset.open(path), "cache": Dataset.open(path, cache=cache)}
    for phase in LEADS:
        for name, dataset in datasets.items():
            forced = ", and its forecast from the Zarr" if phase == 2 else ""
            made = cases_of(dataset, preset_of(phase), residuals)
            spend(f"phase {phase}, read from the {name}{forced}", made.drawn, repeats)
    unforced = cases_of(datasets["cache"], preset_of(1), residuals)
    case = unforced.drawn(0)
    spend("phase 1, prepared, where a CPU does it", lambda _: unforced.prepared(case), 3)
    hours = unforced.windows.inits
    spend("motion, once for each initial hour", lambda i: domain_motion(datasets["cache"], hours[i]), len(hours))
    return spent


def waiting(cache: Dataset, residuals: Residuals, batches: int) -> Iterator[str]:
    """Share of the time that a loop waits for the presets' threads, if a GPU computed each batch in so many seconds."""
    for phase, cards in GPU_SECONDS.items():
        settings = preset_of(phase)
        made, training = cases_of(cache, settings, residuals), settings.training

        def read(numbers: Sequence[int], made: Cases = made) -> list[object]:
            return [made.drawn(number) for number in numbers]

        for card, computing in cards.items():
            groups = _ahead(read, itertools.count(), training.batch, training.workers)
            next(groups)
            waited, cpu, started = 0.0, time.process_time(), time.perf_counter()
            for _ in range(batches):
                time.sleep(computing)
                asked = time.perf_counter()
                next(groups)
                waited += time.perf_counter() - asked
            share = waited / (time.perf_counter() - started)
            used = (time.process_time() - cpu) / batches
            yield f"| {phase} | {card} | {1e3 * computing:.0f} | {training.workers} | {1e3 * used:.0f} | {share:.1%} |"


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
        residuals = made_up.description(load_settings(preset="phase1")).residuals
        for name, spent in cases(path, cache, residuals, repeats).items():
            print(f"| {name} | {spent:.1f} | {1e3 / spent:.1f} |", flush=True)
        print("\n| phase | GPU | ms of its network a batch | threads | ms of CPU a batch | waits |")
        print("|---|---|---|---|---|---|")
        for row in waiting(Dataset.open(path, cache=cache), residuals, repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
