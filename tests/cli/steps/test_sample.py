"""`convcast sample` as it is typed, with a model that takes no time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xarray as xr
from gaussian import INIT, GaussianForecaster, make_dataset

from convcast import model as model_package
from convcast.archive import Forcing, HrrrForecast
from convcast.dataset import HourStatus
from convcast.dataset.forcing.store import ForcingStore, verdict
from convcast.notation import HOUR
from convcast.workspace import create_workspace

FORCING = Forcing((1, 3), (0, 1))
WORDS = ("sample", "--init", f"{INIT}/{INIT + HOUR}", "--members", "1", "--steps", "2", "--json")


class Forced(GaussianForecaster):
    precision = "float32"

    def __post_init__(self):
        super().__post_init__()
        self.forcing = FORCING

    @classmethod
    def load(cls, directory, **options):
        return cls()


@pytest.fixture
def dataset(convcast, monkeypatch):
    """A dataset without forcing in the workspace `w`, and a model that was trained with it."""
    create_workspace(Path("w"), preset="demo")
    monkeypatch.setattr(model_package, "Forecaster", Forced)
    return make_dataset(Path("w/dataset.zarr"))


def test_a_model_with_forcing_runs_without_and_says_so_once(convcast, dataset):
    done = convcast(*WORDS)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["forcing"] == {str(hour): {"1": "none", "3": "none"} for hour in (INIT, INIT + HOUR)}
    assert done.stderr.count("has no HRRR forecast for") == 1
    assert "are drawn without forcing" in done.stderr
    with xr.open_zarr(said["forecasts"][0]) as opened:
        assert opened.attrs["forcing"] == {"1": "none", "3": "none"}


def test_it_takes_the_newest_cycle_there_is_and_says_which(convcast, dataset):
    store = ForcingStore.prepare(dataset.path)
    older = HrrrForecast(INIT - HOUR, 2)
    for forecast in (older, HrrrForecast(INIT, 3)):
        store.write(forecast, dataset.read([INIT])[0])
        store.commit(HourStatus.OK, [forecast], [verdict(forecast, HourStatus.OK, "")])
    done = convcast("sample", "--init", str(INIT), "--members", "1", "--steps", "2", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["forcing"] == {str(INIT): {"1": str(older), "3": f"{INIT} + 3 h"}}
    (note,) = said["notes"]
    assert note == f"the dataset lacks HRRR's forecast of {INIT} + 1 h: {older} forces {INIT} + 1 h"
    assert note in done.stderr


def test_products_say_what_their_members_had(convcast, dataset):
    done = convcast("sample", "--init", str(INIT), "--members", "2", "--steps", "2", "--keep", "products", "--json")
    assert done.exit_code == 0, done.stderr
    (path,) = json.loads(done.stdout)["products"]
    with xr.open_zarr(path) as opened:
        assert opened.attrs["forcing"] == {"1": "none", "3": "none"}
