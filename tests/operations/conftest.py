"""Fixtures that make datasets and ensembles of a few points, in a fraction of a second."""

from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset import HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.grid import Grid
from convcast.variables import REFC, T2M

GRID = Grid(6, 8, 300, 800)
FIELDS = (REFC, T2M)


@pytest.fixture
def dataset_of():
    def make(path, hours):
        store = Store.create(path, DatasetDescription(FIELDS, GRID, False, 0), np.zeros((2, *GRID.shape), np.float32))
        values = np.stack([np.full(GRID.shape, value, np.float32) for value in (10, 290)])
        for hour in hours:
            store.write_hour(hour, values)
            store.write_status([hour], HourStatus.OK, [])
        return store

    return make


@pytest.fixture
def ensemble_of():
    """Return a function that makes an ensemble with room for `members` members, the first `made` of them complete."""
    from convcast.forecasts.store import EnsembleStore, ForecastDescription

    def make(path, init, *, leads=(1, 3), members=4, made=4, trained="2024-05-01T00/2024-05-15T00", model=""):
        identity = {"simulated": 0, "model_sha256": model}
        description = ForecastDescription(init, leads, leads, FIELDS, GRID, identity, {"training_hours": trained})
        store = EnsembleStore.prepare(path, description, members=members)
        values = np.stack([np.full(GRID.shape, value, np.float32) for value in (10, 290)])
        for lead in leads:
            for member in range(made):
                store.write(member, lead, values)
        return store

    return make
