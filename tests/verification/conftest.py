"""Fixtures: a small simulated workspace with four days of hours, and calibrated forecasts of the last two days."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.ndimage import gaussian_filter
from unpainted import unpainted

from convcast.archive.simulated.publisher import WORLD_FILE, simulated_grid
from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.notation import HOUR
from convcast.settings import VerificationSettings
from convcast.variables import FIELDS, REFC, T2M
from convcast.workspace import Workspace, create_workspace

SIZE = 32
START = np.datetime64("2024-05-01T00", "h")
HOURS = START + np.arange(96) * HOUR
TRAINING = "2024-05-01T00/2024-05-02T23"
INITS = np.array(["2024-05-03T06", "2024-05-03T20", "2024-05-04T06", "2024-05-04T20"], "datetime64[h]")
MEMBERS = 8
VARIABLES = tuple(FIELDS.values())
FEW = (REFC, T2M)


def noise(generator, *shape):
    field = gaussian_filter(generator.standard_normal((*shape, SIZE, SIZE)), (0,) * len(shape) + (2, 2), mode="wrap")
    return field / field.std()


def physical(anomaly, variable):
    low, high = variable.display
    values = low + (high - low) * (0.3 + 0.12 * anomaly)
    return (np.round(np.clip(values, *variable.bounds) * variable.scale) / variable.scale).astype(np.float32)


@cache
def truth_anomalies():
    """Return anomalies (hour, variable, y, x), an autoregression in time, so that the exact forecast is known."""
    generator = np.random.default_rng(0)
    anomalies = [noise(generator, len(VARIABLES))]
    for _ in HOURS[1:]:
        anomalies.append(0.8 * anomalies[-1] + 0.6 * noise(generator, len(VARIABLES)))
    return np.stack(anomalies)


@dataclass
class Small:
    """A workspace, its dataset, and the paths of its forecasts when this was made."""

    workspace: Workspace
    dataset: Dataset

    def __post_init__(self):
        self.paths = sorted(self.workspace.forecasts.glob("*.zarr"))

    def settings(self, **changes):
        return VerificationSettings(**({"resamples": 200, "baseline_members": 5} | changes))


def write_forecast(path, init, members, variables=VARIABLES, **attributes):
    anomaly = truth_anomalies()[int((init - START) / HOUR)]
    generator = np.random.default_rng(int(init.astype(int)))
    drawn = 0.8 * anomaly + 0.6 * noise(generator, members, len(VARIABLES))
    fields = {v.name: physical(drawn[:, i], v)[:, None] for i, v in enumerate(VARIABLES) if v in variables}
    said = {"simulated": True, "training_hours": TRAINING, "model_sha256": "0123456789abcdef"} | attributes
    ensemble_dataset(
        fields, init=init, members=range(members), leads=[1], grid=simulated_grid(SIZE), attributes=said
    ).to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return path


def leave_unpainted(monkeypatch):
    """Make figures without painting them, which takes seconds each; return the list of each figure's texts."""
    texts = []
    monkeypatch.setattr(FigureCanvasAgg, "print_png", unpainted(FigureCanvasAgg.print_png, texts))
    return texts


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Score on two threads and read ahead, as on a machine with several cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


@pytest.fixture(name="unpainted")
def unpainted_here(monkeypatch):
    return leave_unpainted(monkeypatch)


def make_workspace(root, variables=VARIABLES):
    workspace = create_workspace(root)
    (workspace.simulated).mkdir()
    (workspace.simulated / WORLD_FILE).write_text(json.dumps({"size": SIZE, "seed": 3}))
    terrain = np.zeros((2, SIZE, SIZE), np.float32)
    store = Store.create(workspace.dataset, DatasetDescription(variables, simulated_grid(SIZE), True, 0), terrain)
    for hour, anomaly in zip(HOURS, truth_anomalies(), strict=True):
        values = np.stack([physical(a, v) for a, v in zip(anomaly, VARIABLES, strict=True) if v in variables])
        store.write_hour(hour, values)
    store.write_status(HOURS, HourStatus.OK, [{"valid": str(hour)} for hour in HOURS])
    for init in INITS:
        write_forecast(workspace.forecast(init), init, MEMBERS, variables)
    return Small(workspace, Dataset.open(workspace.dataset))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A workspace with all fields, which tests must not change."""
    return make_workspace(tmp_path_factory.mktemp("verification") / "workspace")


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """A workspace with two fields, which is faster to score; tests must not change it."""
    return make_workspace(tmp_path_factory.mktemp("few") / "workspace", FEW)


def copied(made, root):
    """Copy a workspace to another folder, where it may be changed; the dataset is shared."""
    shutil.copytree(
        made.workspace.root, root, ignore=shutil.ignore_patterns(made.dataset.path.name), dirs_exist_ok=True
    )
    return replace(made, workspace=Workspace(root))


@pytest.fixture
def small(whole, tmp_path):
    """A copy of `whole` with forecasts and baselines that may be changed; the dataset is shared."""
    return copied(whole, tmp_path / "workspace")
