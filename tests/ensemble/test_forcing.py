"""Members are forced by the newest HRRR forecast that the dataset holds, and their file says which."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from gaussian import FAST, INIT, START, GaussianForecaster, make_dataset

from convcast.archive import Forcing, HrrrForecast
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.forcing.store import ForcingStore, verdict
from convcast.ensemble import choose, describe, described, notes, sample
from convcast.errors import DamagedFileError, MissingInputError
from convcast.grid import Grid
from convcast.notation import HOUR

FORCING = Forcing((1, 3), (0, 1))
NEWEST = {lead: FORCING.forecast(INIT, lead, 0) for lead in (1, 3)}
OLDER = {lead: FORCING.forecast(INIT, lead, 1) for lead in (1, 3)}


class Forced(GaussianForecaster):
    """It records the forcing of its cases."""

    def __post_init__(self):
        super().__post_init__()
        self.forcing = FORCING
        self.seen = []

    def condition(self, windows, *, periodic):
        self.seen += [(w.lead, w.age, None if w.forcing is None else float(w.forcing[0, 0, 0])) for w in windows]
        return super().condition(windows, periodic=periodic)


def put(dataset, forecasts):
    """Forecasts whose first field is 10 times the lead plus the age."""
    store = ForcingStore.prepare(dataset.path)
    for forecast in forecasts:
        age = int((INIT - forecast.cycle) / HOUR)
        values = dataset.read([START])[0]
        values[0] = 10 * (forecast.lead - age) + age
        store.write(forecast, values)
        store.commit(HourStatus.OK, [forecast], [verdict(forecast, HourStatus.OK, "")])
    return Dataset.open(dataset.path)


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "dataset.zarr")


def draw(dataset, path, forecaster=None, *, members=(0,), leads=(1, 3), stored=(), **settings):
    forecaster = forecaster or Forced()
    options = {"init": INIT, "members": members, "leads": leads, "settings": FAST.model_copy(update=settings)}
    done = list(sample(forecaster, dataset, path, stored=stored, **options))
    return forecaster, done


def said(path):
    with xr.open_zarr(path) as opened:
        return opened.attrs["forcing"]


def test_the_newest_forecast_of_each_lead_forces_and_the_file_says_which(dataset, tmp_path):
    dataset = put(dataset, [*NEWEST.values(), *OLDER.values()])
    forecaster, _ = draw(dataset, tmp_path / "f.zarr")
    assert forecaster.seen == [(1, 0, 10.0), (3, 0, 30.0)]
    assert said(tmp_path / "f.zarr") == {"1": "2024-05-06T03 + 1 h", "3": "2024-05-06T03 + 3 h"}
    assert notes(forecaster, INIT, choose(forecaster, dataset, INIT, FAST)) == []


def test_the_older_cycle_forces_where_the_newest_is_late(dataset, tmp_path):
    dataset = put(dataset, [NEWEST[1], *OLDER.values()])
    forecaster, _ = draw(dataset, tmp_path / "f.zarr")
    assert forecaster.seen == [(1, 0, 10.0), (3, 1, 31.0)]
    assert said(tmp_path / "f.zarr")["3"] == "2024-05-06T02 + 4 h"
    (note,) = notes(forecaster, INIT, choose(forecaster, dataset, INIT, FAST))
    lacking, older = "2024-05-06T03 + 3 h", "2024-05-06T02 + 4 h"
    assert note == f"the dataset lacks HRRR's forecast of {lacking}: {older} forces {lacking}"


def test_a_dataset_without_forcing_runs_the_model_without_and_says_so(dataset, tmp_path):
    forecaster, done = draw(dataset, tmp_path / "f.zarr")
    assert len(done) == 2
    assert forecaster.seen == [(1, None, None), (3, None, None)]
    assert said(tmp_path / "f.zarr") == {"1": "none", "3": "none"}
    (note,) = notes(forecaster, INIT, choose(forecaster, dataset, INIT, FAST))
    assert note.startswith("the dataset has no HRRR forecast for 2024-05-06T03 + 1, 3 h")


def test_forcing_is_withheld_on_request(dataset, tmp_path):
    dataset = put(dataset, NEWEST.values())
    forecaster, _ = draw(dataset, tmp_path / "f.zarr", forcing=False)
    assert {age for _, age, _ in forecaster.seen} == {None}


def test_members_drawn_later_have_the_forcing_of_the_first(dataset, tmp_path):
    path = tmp_path / "f.zarr"
    draw(put(dataset, OLDER.values()), path)
    newer = put(dataset, NEWEST.values())
    forecaster, done = draw(newer, path, members=(0, 12))
    assert [d.member for d in done] == [12, 12]
    assert forecaster.seen == [(1, 1, 11.0), (3, 1, 31.0)]
    unbroken, _ = draw(put(make_dataset(tmp_path / "d.zarr"), OLDER.values()), tmp_path / "g.zarr", members=(0, 12))
    with xr.open_zarr(path) as ours, xr.open_zarr(tmp_path / "g.zarr") as theirs:
        xr.testing.assert_identical(ours.load().drop_attrs(), theirs.load().drop_attrs())
    assert unbroken.seen == forecaster.seen


def test_other_files_of_the_init_time_count_too(dataset, tmp_path):
    draw(put(dataset, OLDER.values()), tmp_path / "members.zarr")
    newer = put(dataset, NEWEST.values())
    stored = (tmp_path / "absent.zarr", tmp_path / "members.zarr")
    assert described(choose(Forced(), newer, INIT, FAST, stored=stored))["1"] == "2024-05-06T02 + 2 h"
    description = describe(Forced(), newer, init=INIT, settings=FAST, stored=stored)
    assert description.identity["forcing"]["1"] == "2024-05-06T02 + 2 h"
    forecaster, _ = draw(newer, tmp_path / "other.zarr", stored=stored)
    assert {age for _, age, _ in forecaster.seen} == {1}


def test_members_with_and_without_forcing_are_not_mixed(dataset, tmp_path):
    dataset = put(dataset, NEWEST.values())
    draw(dataset, tmp_path / "f.zarr")
    with pytest.raises(DamagedFileError, match="was made with forcing"):
        draw(dataset, tmp_path / "f.zarr", members=(1,), forcing=False)


def test_forcing_that_was_pruned_since_is_named(dataset, tmp_path):
    path = tmp_path / "f.zarr"
    draw(put(dataset, NEWEST.values()), path)
    ForcingStore.prepare(dataset.path).prune([INIT])
    pruned = Dataset.open(dataset.path)
    with pytest.raises(MissingInputError, match=r"does not hold the HRRR forecast of 2024-05-06T03 \+ 1 h"):
        draw(pruned, path, members=(1, 12))


def test_chains_of_hours_have_forcing_in_their_first_hour_only(dataset, tmp_path):
    dataset = put(dataset, NEWEST.values())
    forecaster, _ = draw(dataset, tmp_path / "f.zarr", leads=(2,))
    ages = [(lead, age) for lead, age, _ in forecaster.seen]
    assert ages[0] == (1, 0)
    assert {age for _, age in ages[1:]} == {None}


def test_tiles_are_cut_from_the_forecast(tmp_path):
    dataset = make_dataset(tmp_path / "dataset.zarr", Grid(40, 48, 300, 800))
    store = ForcingStore.prepare(dataset.path)
    values = dataset.read([START])[0]
    values[0] = np.add.outer(np.arange(40), 0.5 * np.arange(48))
    store.write(NEWEST[1], values)
    store.commit(HourStatus.OK, [NEWEST[1]], [verdict(NEWEST[1], HourStatus.OK, "")])
    forecaster, _ = draw(Dataset.open(dataset.path), tmp_path / "f.zarr", leads=(1,), tile=24, overlap=8)
    assert len({corner for *_, corner in forecaster.seen}) > 1


def test_a_model_without_forcing_has_no_word_of_it(dataset, tmp_path):
    draw(put(dataset, NEWEST.values()), tmp_path / "f.zarr", GaussianForecaster())
    with xr.open_zarr(tmp_path / "f.zarr") as opened:
        assert "forcing" not in opened.attrs
    assert choose(GaussianForecaster(), dataset, INIT, FAST) == {}
    assert HrrrForecast(INIT, 1) == NEWEST[1]
