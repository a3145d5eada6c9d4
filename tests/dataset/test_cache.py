"""Fields read through the cache are those of the dataset, whatever happened to the cache's files."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from convcast.dataset import Dataset, Windows, cache, usable_inits
from convcast.dataset.cases import windows
from convcast.errors import DamagedFileError, DiskFullError
from convcast.notation import HOUR

START = np.datetime64("2024-05-06T00", "h")


@pytest.fixture
def cached(archive, run, tmp_path):
    """Opens the dataset of three hours with its cache."""
    run(archive)
    return lambda: Dataset.open(tmp_path / "dataset.zarr", cache=tmp_path / "cache")


def files(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def test_values_are_those_of_the_dataset(cached, tmp_path):
    plain, dataset = Dataset.open(tmp_path / "dataset.zarr"), cached()
    for _ in range(2):
        part = dataset.read(dataset.hours, slice(3, 20), slice(1, None, 2))
        np.testing.assert_array_equal(part, plain.read(plain.hours)[:, :, 3:20, 1::2])
    assert len(files(tmp_path)) == 3


def test_only_what_is_read_is_unpacked(cached, tmp_path):
    cached().read([START + HOUR])
    assert [file.name[:13] for file in files(tmp_path)] == [str(START + HOUR)]


def test_the_dataset_is_not_read_again(cached, tmp_path, monkeypatch):
    first = cached().read([START])
    monkeypatch.setattr("convcast.dataset.store.Store.read", None)
    np.testing.assert_array_equal(cached().read([START]), first)


def test_an_hour_preprocessed_again_is_unpacked_again(cached, archive, run, tmp_path):
    cached().read([START, START + HOUR])
    before = files(tmp_path)
    store = cached().store.open(tmp_path / "dataset.zarr", writing=True)
    fields = np.stack(list(archive.weather(START + 2 * HOUR).values()))
    store.write_hour(START, fields)
    np.testing.assert_array_equal(cached().read([START])[0], fields)
    after = files(tmp_path)
    assert len(after) == 2
    assert len(set(before) & set(after)) == 1


@pytest.mark.parametrize("keep", [0, 50, 3000])
def test_a_file_cut_short_is_made_again(cached, tmp_path, keep):
    first = cached().read([START])
    (file,) = files(tmp_path)
    cache._map.cache_clear()
    file.write_bytes(file.read_bytes()[:keep])
    np.testing.assert_array_equal(cached().read([START]), first)
    assert file.stat().st_size > 3000


def test_a_lost_hour_is_named(cached, tmp_path):
    dataset = cached()
    for file in (tmp_path / "dataset.zarr" / "data" / "c").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(DamagedFileError, match="lost its values of 2024-05-06T01"):
        dataset.read([START + HOUR])


def test_an_hour_that_is_not_ok_is_not_read(cached):
    with pytest.raises(Exception, match="2024-05-06T07"):
        cached().read([START + 7 * HOUR])


def test_a_disk_too_small_is_said_before_work_starts(cached, monkeypatch):
    dataset = cached()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10_000}))
    with pytest.raises(DiskFullError, match=r"unpacking 3 hours takes 0\.0 GB") as caught:
        dataset.make_room(dataset.hours)
    assert "training.cache=false" in caught.value.advice


def test_killed_while_unpacking_nothing_half_made_is_read(cached, tmp_path):
    """Twelve children, killed a little later each; what they leave is read by the next, and is right."""
    expected = Dataset.open(tmp_path / "dataset.zarr").read([START + k * HOUR for k in range(3)])
    for delay in np.linspace(0, 0.06, 12):
        child = os.fork()
        if child == 0:
            while True:
                for file in (tmp_path / "cache").glob("*.npy"):
                    file.unlink()
                cache._map.cache_clear()
                dataset = cached()
                dataset.read(dataset.hours)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        cache._map.cache_clear()
        dataset = cached()
        np.testing.assert_array_equal(dataset.read(dataset.hours), expected)


def test_old_files_of_killed_runs_are_swept(cached, tmp_path):
    (tmp_path / "cache").mkdir()
    old, new = (tmp_path / "cache" / f"{name}.npy.1.partial" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    cached()
    assert (old.exists(), new.exists()) == (False, True)


def test_windows_are_the_same_through_it(long_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "IN_MEMORY", 0)
    monkeypatch.setattr(cache, "MAPPED", 2)

    def cases(dataset):
        inits = usable_inits(dataset.hours, history=4, leads=(1,))
        options = {"leads": (1,), "history": 4, "patch": 16, "seed": 1, "augment": True, "convective": 0.5}
        return Windows(dataset, inits, **options)

    plain, through = cases(long_dataset), cases(Dataset.open(long_dataset.path, cache=tmp_path / "cache"))
    for number in (0, 5, 40):
        for name in ("history", "target", "static", "motion", "weight"):
            np.testing.assert_array_equal(getattr(plain[number], name), getattr(through[number], name))
