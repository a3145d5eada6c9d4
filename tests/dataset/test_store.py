from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest

from convcast.dataset import Dataset, preprocess
from convcast.dataset.layout import EPOCH, DatasetDescription, HourStatus, index
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, SettingsError
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.settings import DatasetSettings
from convcast.variables import CAPE, REFC, T2M

START = np.datetime64("2024-05-06T00", "h")
LARGE = DatasetDescription((REFC, T2M, CAPE), Grid(300, 200, 100, 100), False, 0)


@pytest.fixture
def large(tmp_path):
    """A store of a domain of several chunks."""
    return Store.create(tmp_path / "dataset.zarr", LARGE, np.zeros((2, 300, 200), np.float32))


def some_values(seed=0):
    """Return fields (variable, y, x) on the lattice."""
    integers = np.random.default_rng(seed).integers(0, 800, (3, 300, 200))
    return (integers / np.array([16, 16, 4])[:, None, None]).astype(np.float32)


def files_of(store, hour):
    return [file for file in (store.path / "data" / "c" / str(index(hour))).rglob("*") if file.is_file()]


def test_nothing_exists_before_its_status_says_so(large):
    large.write_hour(START, some_values())
    assert Dataset(large).hours.size == 0
    large.write_status([START], HourStatus.OK, [])
    assert list(Dataset(large).hours) == [START]


def test_an_hour_of_a_large_domain_is_one_file(large):
    large.write_hour(START, some_values())
    assert len(files_of(large, START)) == 1


def test_a_window_of_a_large_domain_is_the_same_part(large):
    large.write_hour(START, some_values())
    large.write_status([START], HourStatus.OK, [])
    part = Dataset(large).read([START], slice(100, 164), slice(120, 184))
    np.testing.assert_array_equal(part[0], some_values()[:, 100:164, 120:184])


def test_missing_points_stay_missing(large):
    values = some_values()
    values[1, 5, 6] = np.nan
    large.write_hour(START, values)
    large.write_status([START], HourStatus.OK, [])
    np.testing.assert_array_equal(Dataset(large).read([START])[0], values)


def test_rounding_is_half_a_lattice_step_at_most(large):
    values = np.random.default_rng(1).uniform(0, 80, (3, 300, 200)).astype(np.float32)
    large.write_hour(START, values)
    large.write_status([START], HourStatus.OK, [])
    error = np.abs(Dataset(large).read([START])[0] - values).max(axis=(1, 2))
    assert (error <= np.array([1 / 32, 1 / 32, 1 / 8]) + 1e-5).all()


def test_hours_years_apart_fit(large):
    hours = [EPOCH, START, np.datetime64("2035-01-01T00", "h")]
    for seed, hour in enumerate(hours):
        large.write_hour(hour, some_values(seed))
        large.write_status([hour], HourStatus.OK, [])
    dataset = Dataset.open(large.path)
    assert list(dataset.hours) == hours
    for seed, hour in enumerate(hours):
        np.testing.assert_array_equal(dataset.read([hour])[0], some_values(seed))


def test_an_hour_before_hrrr_is_refused(large):
    with pytest.raises(SettingsError, match="2014-06-30T23 is before"):
        large.write_hour(EPOCH - HOUR, some_values())


def test_time_is_readable_by_others(large):
    import zarr

    large.write_hour(START, some_values())
    group = zarr.open_group(large.path, mode="r")
    assert group["time"].attrs["units"] == "hours since 2014-07-01 00:00"
    assert group["time"][index(START)] == index(START)
    assert {group[name].shape[0] for name in ("data", "status", "time")} == {
        index(START) // (366 * 24) * 366 * 24 + 366 * 24
    }


def test_an_array_that_a_kill_left_longer_is_harmless(large):
    large._data.resize((1000, 3, 300, 200))
    store = Store.open(large.path, writing=True)
    store.write_hour(START, some_values())
    store.write_status([START], HourStatus.OK, [])
    np.testing.assert_array_equal(Dataset.open(large.path).read([START])[0], some_values())


def test_a_flipped_bit_is_found(large):
    large.write_hour(START, some_values())
    large.write_status([START], HourStatus.OK, [])
    (file,) = files_of(large, START)
    content = bytearray(file.read_bytes())
    content[4000] ^= 8
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match="is damaged at 2024-05-06T00"):
        Dataset.open(large.path).read([START])


def test_a_lost_file_is_found(large):
    large.write_hour(START, some_values())
    large.write_status([START], HourStatus.OK, [])
    (file,) = files_of(large, START)
    file.unlink()
    with pytest.raises(DamagedFileError, match="has lost its values of 2024-05-06T00"):
        Dataset.open(large.path).read([START])


@pytest.mark.parametrize(
    "line",
    [
        '{"valid": "2024-05-06T0',
        "[" * 100_000,
        '{"valid": "1901-01-01T00"}',
        '{"valid": "2024050618"}',
        '{"valid": [1]}',
    ],
    ids=["torn", "nested", "before the archive", "far ahead", "no text"],
)
def test_a_damaged_verdict_is_passed_over(large, line):
    large.write_status([START], HourStatus.GAP, [{"valid": str(START), "status": "gap"}])
    with open(large.path / "status" / "verdicts.jsonl", "a") as file:
        file.write(line)
    assert list(large.read_verdicts()) == [START]


def test_no_dataset_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match="there is no dataset") as caught:
        Dataset.open(tmp_path / "dataset.zarr")
    assert "convcast preprocess" in caught.value.advice


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "dataset.zarr").mkdir()
    (tmp_path / "dataset.zarr" / "letter.txt").write_text("Dear")
    with pytest.raises(DamagedFileError, match="not a convcast dataset"):
        Dataset.open(tmp_path / "dataset.zarr")


def test_another_zarr_is_refused(tmp_path):
    import zarr

    zarr.open_group(tmp_path / "dataset.zarr", mode="w").create_array("data", shape=(3,), dtype="f4")
    with pytest.raises(DamagedFileError, match="not a convcast dataset"):
        Dataset.open(tmp_path / "dataset.zarr")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format_version", 99, "format version 99"),
        ("fields", ["snow"], "damaged"),
        ("scale", [1, 1, 1], "lattices"),
        ("grid", {"ny": 3}, "damaged"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(large, key, value, words):
    file = large.path / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["attributes"][key] = value
    file.write_text(json.dumps(metadata))
    with pytest.raises(DamagedFileError, match=words):
        Dataset.open(large.path)


def test_a_store_without_its_arrays_is_refused(large):
    shutil.rmtree(large.path / "histograms")
    with pytest.raises(DamagedFileError, match="has no array histograms/values"):
        Dataset.open(large.path)


def kill_at_random(archive, path, kills: int) -> int:
    """Fork a run, kill it after a random time, look, until there were so many kills; the number of finished runs."""
    expected = {
        START + hour * HOUR: np.stack(list(archive.weather(START + hour * HOUR).values())) for hour in range(10)
    }
    chance = random.Random(4)
    started = time.perf_counter()
    list(preprocess(archive, path, settings=DatasetSettings()))
    whole = time.perf_counter() - started
    shutil.rmtree(path)
    done = finished = 0
    while done < kills:
        child = os.fork()
        if child == 0:
            list(preprocess(archive, path, settings=DatasetSettings()))
            os._exit(0)
        time.sleep(chance.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        done += killed
        if not path.exists():
            continue
        dataset = Dataset.open(path)
        for hour in dataset.hours:
            np.testing.assert_array_equal(dataset.read([hour])[0], expected[hour])
        if not killed:
            assert list(dataset.hours) == list(expected)
            finished += 1
            shutil.rmtree(path)
    list(preprocess(archive, path, settings=DatasetSettings()))
    dataset = Dataset.open(path)
    assert list(dataset.hours) == list(expected)
    counted = [dataset.store.read_histogram(hour).sum(axis=1) for hour in dataset.hours]
    assert (np.array(counted) == dataset.grid.ny * dataset.grid.nx).all()
    changes = [dataset.store.read_tendencies(hour).sum(axis=1) for hour in dataset.hours[1:]]
    assert (np.array(changes) == dataset.grid.ny * dataset.grid.nx).all()
    return finished


@pytest.mark.parametrize("kills", [pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_instant_it_opens_and_the_next_run_finishes(archive, tmp_path, kills):
    for hour in range(3, 10):
        archive.add_hour(START + hour * HOUR)
    kill_at_random(archive, tmp_path / "dataset.zarr", kills)


def test_static_fields_of_the_sea_are_not_lost(large):
    """Zeros everywhere, which zarr would not write."""
    np.testing.assert_array_equal(large.static, np.zeros((2, 300, 200)))
    large.write_static(np.zeros((2, 300, 200), np.float32))
    np.testing.assert_array_equal(large.static, np.zeros((2, 300, 200)))
