"""After a power cut during preprocessing, all committed hours are right, and the next run finishes the work."""

from __future__ import annotations

import shutil

import numpy as np
from power import Disk, lay_out

from convcast.dataset import Dataset, preprocess
from convcast.dataset.store import Store
from convcast.notation import HOUR
from convcast.settings import DatasetSettings

START = np.datetime64("2024-05-06T00", "h")


def test_a_power_cut_leaves_only_hours_that_are_whole(archive, tmp_path):
    expected = {START + n * HOUR: np.stack(list(archive.weather(START + n * HOUR).values())) for n in range(3)}
    disk = Disk(tmp_path / "disk")
    disk.root.mkdir()
    with disk:
        for verdict in preprocess(archive, disk.root / "dataset.zarr", settings=DatasetSettings()):
            disk.cut()
            assert verdict.status == "ok"
    assert disk.cuts > 100

    met = set()
    for number, state in enumerate([*disk.states[::3], disk.states[-1]]):
        root = tmp_path / f"cut{number}"
        lay_out(state, root)
        path = root / "dataset.zarr"
        hours = []
        if path.exists():
            hours = list(Dataset.open(path).hours)
            for hour in hours:
                np.testing.assert_array_equal(Dataset.open(path).read([hour])[0], expected[hour])
                assert Store.open(path).read_histogram(hour).sum() == expected[hour].size
        met.add(len(hours))
        if number % 20 == 0:
            list(preprocess(archive, path, settings=DatasetSettings()))
            dataset = Dataset.open(path)
            assert list(dataset.hours) == list(expected)
            np.testing.assert_array_equal(dataset.read(dataset.hours), np.stack(list(expected.values())))
            assert [dataset.store.read_tendencies(hour).sum() for hour in dataset.hours[1:]] == [24 * 32 * 7] * 2
        shutil.rmtree(root)
    assert met == {0, 1, 2, 3}
    assert hours == list(expected), "what was said to be done is there"
