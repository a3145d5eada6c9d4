from __future__ import annotations

import shutil

import numpy as np
import pytest

from convcast.archive import HrrrForecast
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.forcing.store import FOLDER, ForcingStore, verdict
from convcast.errors import DamagedFileError, MissingInputError
from convcast.notation import HOUR

START = np.datetime64("2024-05-06T00", "h")
FIRST, SECOND = HrrrForecast(START, 3), HrrrForecast(START + HOUR, 2)
ALL = slice(None)


@pytest.fixture
def path(preprocessed):
    return preprocessed.path


def fields(path, value=0.0):
    shape = Dataset.open(path).read([START])[0]
    return shape + np.float32(value)


def put(store, forecast, values):
    store.write(forecast, values)
    store.commit(HourStatus.OK, [forecast], [verdict(forecast, HourStatus.OK, "")])


@pytest.fixture
def store(path):
    made = ForcingStore.prepare(path)
    put(made, FIRST, fields(path))
    put(made, SECOND, fields(path, 1.0))
    return made


def test_a_dataset_without_forcing_is_whole(path):
    assert ForcingStore.open(path) is None
    dataset = Dataset.open(path)
    assert dataset.forecast_status == {}
    assert not dataset.has_forecast(FIRST)
    with pytest.raises(MissingInputError, match=r"does not hold the HRRR forecast of 2024-05-06T00 \+ 3 h"):
        dataset.read_forecast(FIRST)


def test_forecasts_come_back_on_the_lattice_by_cycle_and_lead(store, path):
    dataset = Dataset.open(path)
    assert dataset.forecast_status == {FIRST: HourStatus.OK, SECOND: HourStatus.OK}
    np.testing.assert_array_equal(dataset.read_forecast(FIRST), fields(path))
    part = slice(2, 9), slice(5, 6)
    np.testing.assert_array_equal(dataset.read_forecast(SECOND, *part), fields(path, 1.0)[(..., *part)])


def test_a_forecast_that_is_not_committed_does_not_exist(store, path):
    store.write(HrrrForecast(START, 5), fields(path))
    assert HrrrForecast(START, 5) not in ForcingStore.prepare(path).statuses()


def test_a_kill_between_verdict_and_status_is_made_good(store, path, monkeypatch):
    third = HrrrForecast(START, 6)
    store.write(third, fields(path))
    monkeypatch.setattr(store, "_write_status", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.commit(HourStatus.OK, [third], [verdict(third, HourStatus.OK, "")])
    assert third not in Dataset.open(path).forecast_status
    ForcingStore.prepare(path)
    np.testing.assert_array_equal(Dataset.open(path).read_forecast(third), fields(path))


@pytest.mark.parametrize("lost", ["status", "data/zarr.json", "status/zarr.json", "status/c"])
def test_lost_files_are_made_again_and_nothing_else_changes(store, path, lost):
    what = path / FOLDER / lost
    shutil.rmtree(what) if what.is_dir() else what.unlink()
    ForcingStore.prepare(path)
    dataset = Dataset.open(path)
    assert set(dataset.forecast_status) == {FIRST, SECOND}
    np.testing.assert_array_equal(dataset.read_forecast(FIRST), fields(path))


def test_a_lost_or_spoilt_forecast_is_named(store, path):
    (file,) = (path / FOLDER / "data").glob(f"c/*/{FIRST.lead}/0/0/0")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"damaged at 2024-05-06T00 \+ 3 h"):
        Dataset.open(path).read_forecast(FIRST)
    assert not store.is_whole(FIRST)
    assert store.has_file(FIRST)
    file.unlink()
    with pytest.raises(DamagedFileError, match=r"lost the HRRR forecast of 2024-05-06T00 \+ 3 h"):
        Dataset.open(path).read_forecast(FIRST)


def test_pruned_forecasts_are_gone_for_good(store, path):
    store.prune([START])
    assert list(store.stored_cycles()) == [START + HOUR]
    dataset = Dataset.open(path)
    assert dataset.forecast_status == {FIRST: HourStatus.PRUNED, SECOND: HourStatus.OK}
    assert not dataset.has_forecast(FIRST)


def test_forecasts_of_many_years_are_told_apart(store, path):
    late = HrrrForecast(START + 9000 * HOUR, 3)
    put(store, late, fields(path, 2.0))
    assert set(Dataset.open(path).forecast_status) == {FIRST, SECOND, late}
