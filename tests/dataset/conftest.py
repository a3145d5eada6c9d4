"""Fixtures: a small archive, as `convcast fetch` writes it, and a dataset made of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convcast import grib
from convcast.dataset import Dataset, preprocess
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.settings import DatasetSettings
from convcast.variables import FIELDS, STATIC

START = np.datetime64("2024-05-06T00", "h")
GRID = Grid(24, 32, 300, 800)
TYPICAL = {
    "refc": (10, 4),
    "t2m": (295, 3),
    "d2m": (285, 3),
    "u10": (5, 2),
    "v10": (-3, 2),
    "cape": (900, 150),
    "cin": (-80, 15),
}
"""Mean and spread of each field."""


def weather(valid, grid: Grid = GRID) -> dict[str, np.ndarray]:
    """Fields (y, x) on the lattice of 1/16 (CAPE: 1/4) that move one cell up and two to the right each hour."""
    generator = np.random.default_rng(5)
    hour = int((valid - START) / HOUR)
    fields = {}
    for name, (mean, spread) in TYPICAL.items():
        noise = generator.normal(size=grid.shape)
        smooth = sum(np.roll(noise, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)) / 5
        values = mean + spread * np.roll(smooth, (hour, 2 * hour), (0, 1))
        fields[name] = (np.round(values * FIELDS[name].scale) / FIELDS[name].scale).astype(np.float32)
    fields["d2m"] = np.minimum(fields["d2m"], fields["t2m"])
    return fields


def message(name: str, values, valid, *, lead=0, grid=GRID, simulated=False, key=None) -> bytes:
    key = key or (FIELDS | STATIC)[name].grib
    return grib.encode(values, key=key, grid=grid, init=valid - lead * HOUR, lead_hours=lead, simulated=simulated)


@dataclass
class SmallArchive:
    """Stand-in for convcast.archive.Archive with the parts that preprocessing uses."""

    root: Path
    grid: Grid = GRID
    simulated: bool = False
    present: dict[tuple[int, object], str] = field(default_factory=dict)

    @property
    def static(self) -> Path:
        return self.root / "static.grib2"

    def path(self, valid, lead) -> Path:
        return self.root / f"{valid}.f{lead:02d}.grib2"

    def hours(self, *leads):
        found = [{valid for at, valid in self.present if at == lead} for lead in leads]
        return np.array(sorted(set.intersection(*found)), "datetime64[h]")

    def sidecar(self, path):
        return SimpleNamespace(
            sha256=next(digest for (lead, valid), digest in self.present.items() if self.path(valid, lead) == path)
        )

    def add(self, valid, content: bytes, *, lead=0) -> Path:
        path = self.path(valid, lead)
        path.write_bytes(content)
        self.present[lead, valid] = sha256(content).hexdigest()
        return path

    def weather(self, valid):
        return weather(valid, self.grid)

    def message(self, name, values, valid, **how) -> bytes:
        return message(name, values, valid, **({"grid": self.grid, "simulated": self.simulated} | how))

    def add_static(self, terrain=None):
        ground = {
            "orog": np.full(self.grid.shape, 250.0) if terrain is None else terrain,
            "lsm": np.ones(self.grid.shape),
        }
        self.static.write_bytes(
            b"".join(
                message(name, values, START, grid=self.grid, simulated=self.simulated)
                for name, values in ground.items()
            )
        )

    def add_hour(self, valid, *, lead=0, changed=None, **how):
        """Add an hour of plausible weather; `changed` replaces fields, with None for a missing one."""
        fields = weather(valid, self.grid) | (changed or {})
        options = {"grid": self.grid, "simulated": self.simulated} | how
        content = [
            message(name, values, valid, lead=lead, **options) for name, values in fields.items() if values is not None
        ]
        return self.add(valid, b"".join(content), lead=lead)


@pytest.fixture(scope="session")
def three_hours(tmp_path_factory) -> SmallArchive:
    """Archive of three hours from START on, which tests copy."""
    root = tmp_path_factory.mktemp("three_hours") / "archive"
    root.mkdir()
    made = SmallArchive(root)
    made.add_static()
    for hour in range(3):
        made.add_hour(START + hour * HOUR)
    return made


@pytest.fixture(scope="session")
def three_hours_dataset(three_hours) -> Path:
    """Dataset of the three hours, which tests copy."""
    path = three_hours.root.with_name("dataset.zarr")
    list(preprocess(three_hours, path, settings=DatasetSettings()))
    return path


@pytest.fixture
def archive(three_hours, tmp_path) -> SmallArchive:
    """Copy of the archive of three hours."""
    shutil.copytree(three_hours.root, tmp_path / "archive")
    return replace(three_hours, root=tmp_path / "archive", present=dict(three_hours.present))


@pytest.fixture
def preprocessed(archive, three_hours_dataset, tmp_path) -> Dataset:
    """Copy of the dataset of the three hours, where `run(archive)` would make it."""
    shutil.copytree(three_hours_dataset, tmp_path / "dataset.zarr")
    return Dataset.open(tmp_path / "dataset.zarr")


@pytest.fixture
def small_archive(tmp_path):
    """An empty archive on another grid or of another world."""

    def make(name: str = "other", **how) -> SmallArchive:
        (tmp_path / name).mkdir()
        return SmallArchive(tmp_path / name, **how)

    return make


@pytest.fixture
def run(tmp_path):
    """Return a function that preprocesses into tmp_path, and returns verdicts by hour after START and the dataset."""

    def run_preprocess(archive, **settings):
        path = tmp_path / "dataset.zarr"
        units = preprocess(archive, path, settings=DatasetSettings(**settings))
        verdicts = {int((verdict.valid - START) / HOUR): verdict for verdict in units}
        return verdicts, Dataset.open(path)

    return run_preprocess


@pytest.fixture(scope="session")
def long_dataset(tmp_path_factory) -> Dataset:
    """Thirty hours of weather that moves one cell up and two to the right each hour; the 14th is missing."""
    return _long(tmp_path_factory.mktemp("long"), simulated=False)


@pytest.fixture(scope="session")
def torus(tmp_path_factory) -> Dataset:
    """The same as `long_dataset`, on a torus."""
    return _long(tmp_path_factory.mktemp("torus"), simulated=True)


def _long(root: Path, *, simulated: bool) -> Dataset:
    (root / "archive").mkdir()
    made = SmallArchive(root / "archive", simulated=simulated)
    made.add_static(np.add.outer(np.arange(24), np.arange(32)) * 4.0)
    for hour in range(30):
        if hour != 13:
            made.add_hour(START + hour * HOUR)
    list(preprocess(made, root / "dataset.zarr", settings=DatasetSettings()))
    return Dataset.open(root / "dataset.zarr")


@pytest.fixture
def real_archive(tmp_path, shared_data) -> SmallArchive:
    """The 24 real HRRR hours, analysis lead 1, 41 x 78 points, without REFC."""
    (tmp_path / "archive").mkdir()
    made = SmallArchive(tmp_path / "archive")
    folder = shared_data / "hrrr_hourly" / "hrrr.20180722"
    for hour in range(24):
        content = (folder / f"hrrr.t{hour:02d}z.wrfsfcf01.grib2").read_bytes()
        made.add(np.datetime64("2018-07-22T01", "h") + hour * HOUR, content, lead=1)
    made.static.write_bytes(content)
    return made
