"""Fixtures: a small dataset of moving weather on a torus, and settings of a small network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convcast.dataset import Dataset
from convcast.dataset.layout import DatasetDescription, HourStatus
from convcast.dataset.store import Store
from convcast.grid import Grid
from convcast.model.features import correction
from convcast.model.training import preparation
from convcast.notation import HOUR
from convcast.settings.load import load_settings
from convcast.variables import FIELDS, select

START = np.datetime64("2024-05-06T00", "h")
HOURS = 40
SIDE = 16
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
CORRECTION_STEPS = 2
"""Number of steps of the fit of the correction, except in tests of the correction."""

TINY = {
    "split": {"validation_days": 0.3, "test_days": 0, "gap_hours": 1},
    "model": {
        "base": 8,
        "multipliers": [1, 2],
        "encoder_multipliers": [1],
        "attention": [4],
        "window": 4,
        "embedding": 16,
        "diffusion_steps": 50,
    },
    "training": {
        "patch": SIDE,
        "batch": 3,
        "draws": 2,
        "steps": 4,
        "minutes": 1000,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
        "warm_up": 2,
        "validation_cases": 0,
        "validation_members": 3,
    },
}


def weather(hour: int, side: int) -> np.ndarray:
    """Return fields (variable, y, x) of shapes that move by one row and two columns each hour, and change slowly."""
    fields = []
    for k, (name, (mean, spread)) in enumerate(TYPICAL.items()):
        noise = np.random.default_rng(k).normal(size=(2, side, side))
        smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(-2, 3) for j in range(-2, 3)) / 5
        phase = 2 * np.pi * hour / 24
        values = mean + spread * np.roll(
            np.cos(phase) * smooth[0] + np.sin(phase) * smooth[1], (hour, 2 * hour), (0, 1)
        )
        fields.append(np.round(values * FIELDS[name].scale) / FIELDS[name].scale)
    return np.stack(fields).astype(np.float32)


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory):
    def make(names=tuple(TYPICAL), *, simulated=True, periodic=True, side=SIDE) -> Dataset:
        path = tmp_path_factory.mktemp("dataset") / "dataset.zarr"
        grid = Grid(side, side, 400, 900, periodic)
        ground = np.stack([np.linspace(200, 900, side * side).reshape(side, side), np.ones((side, side))])
        store = Store.create(path, DatasetDescription(select(names), grid, simulated, 0), ground.astype(np.float32))
        chosen = [list(TYPICAL).index(name) for name in names]
        for hour in range(HOURS):
            store.write_hour(START + hour * HOUR, weather(hour, side)[chosen])
            if hour:
                store.write_tendencies(START + hour * HOUR)
        store.write_status([START + hour * HOUR for hour in range(HOURS)], HourStatus.OK, [])
        return Dataset.open(path)

    return make


@pytest.fixture(scope="session")
def dataset(make_dataset) -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def make_settings():
    """Return a function that makes the small settings with changes: make_settings(training={"steps": 3})."""

    def make(**changes):
        flags = {group: TINY.get(group, {}) | changes.get(group, {}) for group in TINY.keys() | changes.keys()}
        return load_settings(flags=flags, preset="demo")

    return make


@pytest.fixture(scope="session", autouse=True)
def _described_once():
    """Fit statistics and reference once for the same data, predictors, patch and precision, and in few steps.

    They do not depend on the network.
    """
    seen = {"leads", "history", "reference", "inputs", "forcing", "forcing_ages"}
    with pytest.MonkeyPatch.context() as patch:
        describe, known = preparation.describe, {}

        def remembered(dataset, settings):
            patches = settings.training.model_dump(include={"patch", "seed", "augmentation", "precision"})
            key = f"{dataset.path} {settings.model.model_dump(include=seen)} {settings.split!r} {patches}"
            if key not in known:
                with pytest.MonkeyPatch.context() as soon:
                    soon.setattr(correction, "MAX_STEPS", CORRECTION_STEPS)
                    known[key] = describe(dataset, settings)
            return replace(known[key], model=settings.model).under(settings)

        patch.setattr(preparation, "describe", remembered)
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)
