from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import xarray

from convcast.dataset import open_dataset
from convcast.dataset.layout import HourStatus, index
from convcast.dataset.store import Store
from convcast.errors import SettingsError
from convcast.grid import Grid
from convcast.notation import HOUR

START = np.datetime64("2024-05-06T00", "h")


@pytest.fixture
def view(long_dataset):
    return open_dataset(long_dataset.path)


def test_values_are_those_of_the_dataset(view, long_dataset):
    values = np.stack([view[v.name].values for v in long_dataset.variables], axis=1)
    ok = np.asarray(view.status) == HourStatus.OK
    np.testing.assert_array_equal(values[ok], long_dataset.read(long_dataset.hours))


def test_hours_that_are_not_ok_are_nan(view):
    np.testing.assert_array_equal(np.isnan(view.t2m).all(("y", "x")), np.asarray(view.status) != HourStatus.OK)


def test_names_and_units_are_cf(view):
    assert view.t2m.attrs["standard_name"] == "air_temperature"
    assert (view.u10.attrs["units"], view.t2m.dtype) == ("m s-1", np.float32)
    assert {"latitude", "longitude", "spatial_ref", "x", "y", "time", "status"} <= set(view.coords)


def test_it_says_whether_it_is_simulated(view, torus):
    assert view.attrs["simulated"] == 0
    assert open_dataset(torus.path).attrs["simulated"] == 1


@pytest.mark.parametrize(
    "key",
    [
        {"time": 3, "y": 4, "x": 5},
        {"time": slice(10, 20, 3), "y": slice(None, None, -1)},
        {"time": [5, 2, 13], "x": [7, 1, 1]},
        {"y": slice(0, 0)},
        {"time": -1},
    ],
)
def test_any_part_can_be_taken(view, key):
    np.testing.assert_array_equal(view.t2m.isel(key).values, view.t2m.compute().isel(key).values)


def test_nothing_is_read_before_it_is_asked_for(long_dataset, monkeypatch):
    reads = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, *args: reads.append(args[0]) or read(self, *args))
    chosen = open_dataset(long_dataset.path, chunk_hours=1).t2m.isel(time=slice(4, 6))
    assert reads == []
    chosen.load()
    assert len(reads) == 2


def test_it_is_saved_by_plain_xarray(view, tmp_path):
    view.isel(time=slice(0, 3)).to_zarr(tmp_path / "copy.zarr", zarr_format=3, consolidated=False)
    with xarray.open_zarr(tmp_path / "copy.zarr", consolidated=False) as copy:
        np.testing.assert_array_equal(copy.t2m.values, view.t2m[:3].values)


def test_no_dataset_says_so(tmp_path):
    with pytest.raises(SettingsError, match="no dataset"):
        open_dataset(tmp_path / "dataset.zarr")


@pytest.fixture
def many_hours(small_archive, run):
    """The path of a dataset whose 2000 hours are the same files, and the mean of its second field."""
    large = small_archive(grid=Grid(128, 128, 300, 800))
    large.add_static()
    large.add_hour(START)
    _, dataset = run(large)
    store = Store.open(dataset.path, writing=True)
    hours = START + np.arange(2000) * HOUR
    store.reserve(hours[-1])
    folder = dataset.path / "data" / "c"
    for hour in hours[1:]:
        (folder / str(index(hour))).symlink_to(str(index(START)))
    store.write_status(hours, HourStatus.OK, [])
    return dataset.path, dataset.read([START])[0, 1].mean()


def test_hours_are_averaged_in_bounded_memory(many_hours):
    """One field of 500 hours is 33 MB; memory grows by a third of that at most."""
    path, expected = many_hours
    part = open_dataset(path, chunk_hours=16).t2m[:500]
    float(part[:16].mean())  # which imports what takes memory once
    tracemalloc.start()
    try:
        mean = float(part.mean())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose((part.time.size, mean), (500, expected), rtol=1e-4)
    assert peak < part.nbytes / 3


def test_a_chunk_has_64_mb(many_hours):
    view = open_dataset(many_hours[0])
    assert view.t2m.chunks[0][0] * view.t2m[0].nbytes == 64 << 20
