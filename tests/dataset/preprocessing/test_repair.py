"""Lost files of a dataset are restored from its verdicts and the archive, or named in an error."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from convcast.dataset import Dataset, FieldStatistics, HourStatus, preprocess
from convcast.dataset.layout import HOURLY, index
from convcast.errors import DamagedFileError
from convcast.notation import HOUR
from convcast.settings import DatasetSettings

START = np.datetime64("2024-05-06T00", "h")
MIDDLE = START + HOUR


@pytest.fixture
def mend(archive, tmp_path):
    """Preprocess again: the verdicts by hour after START, the dataset, and what was said."""

    def run_again(**options):
        said = []
        units = preprocess(archive, tmp_path / "dataset.zarr", settings=DatasetSettings(), tell=said.append, **options)
        verdicts = {int((verdict.valid - START) / HOUR): verdict.status for verdict in units}
        return verdicts, Dataset.open(tmp_path / "dataset.zarr"), said

    return run_again


def is_as_archived(dataset, archive, hours=(0, 1, 2)) -> bool:
    wanted = [START + hour * HOUR for hour in hours]
    assert list(dataset.hours) == wanted
    for hour in wanted:
        np.testing.assert_array_equal(dataset.read([hour])[0], np.stack(list(archive.weather(hour).values())))
    statistics = FieldStatistics.from_hours(dataset, dataset.hours)
    assert (statistics.hours, statistics.pairs) == (len(wanted), len(wanted) - 1)
    return True


def chunk(dataset, array, hour):
    folder = dataset.path / array / "c" / str(index(START + hour * HOUR))
    (file,) = (file for file in folder.rglob("*") if file.is_file())
    return file


def lose(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def garble(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def to_json(path):
    path.write_text("{")


SPOILT = [lose, empty, truncate, garble]


@pytest.mark.parametrize("damage", SPOILT)
@pytest.mark.parametrize("name", ["status/c/0", "time/c/0", "static/c/0/0/0"])
def test_a_lost_or_damaged_record_is_made_again_without_the_hours(archive, run, mend, name, damage):
    archive.add_hour(START + 3 * HOUR, changed={"t2m": None})
    archive.add_hour(START + 5 * HOUR)
    _, dataset = run(archive)
    before, static = dict(zip(dataset.times, dataset.status, strict=True)), dataset.static
    damage(dataset.path / name)

    verdicts, dataset, said = mend()

    assert verdicts == {}, "no hour is decoded again"
    assert [name.partition("/")[0] in line for line in said] == [True]
    assert dict(zip(dataset.times, dataset.status, strict=True)) == before
    assert set(before.values()) == {HourStatus.OK, HourStatus.GAP, HourStatus.REJECTED}
    np.testing.assert_array_equal(dataset.static, static)
    assert mend()[2] == [], "once"


@pytest.mark.parametrize("damage", [lose, empty, to_json])
@pytest.mark.parametrize("name", ["status", "time", "static", *HOURLY])
def test_a_lost_description_of_an_array_is_made_again_without_the_hours(archive, preprocessed, mend, name, damage):
    damage(preprocessed.path / name / "zarr.json")
    verdicts, dataset, said = mend()
    assert verdicts == {}
    assert len(said) == 1
    assert name in said[0]
    assert is_as_archived(dataset, archive)
    assert dataset.status.tolist() == [1, 1, 1]


def test_a_status_without_file_is_no_empty_dataset_but_a_damaged_one(archive, run):
    _, dataset = run(archive)
    lose(dataset.path / "status/c/0")
    with pytest.raises(DamagedFileError, match="lost the status") as caught:
        Dataset.open(dataset.path)
    assert "convcast preprocess" in caught.value.advice
    assert "delete" not in caught.value.advice


def test_pruned_hours_stay_pruned(archive, preprocessed, mend):
    from convcast.dataset.store import Store

    Store.open(preprocessed.path, writing=True).prune([START])
    lose(preprocessed.path / "status/c/0")
    verdicts, dataset, _ = mend()
    assert verdicts == {}
    assert dataset.status.tolist() == [HourStatus.PRUNED, HourStatus.OK, HourStatus.OK]


@pytest.mark.parametrize("damage", SPOILT)
@pytest.mark.parametrize("name", HOURLY[:2])
def test_an_hour_whose_file_is_lost_or_damaged_is_taken_from_the_archive_again(
    archive, preprocessed, mend, name, damage
):
    damage(chunk(preprocessed, name, 1))
    verdicts, dataset, said = mend()
    assert verdicts == {1: "ok"}
    assert "1 hours lost their fields" in said[0]
    assert is_as_archived(dataset, archive)
    assert mend()[0] == {}


def test_lost_changes_are_counted_again(archive, preprocessed, mend):
    expected = preprocessed.store.read_tendencies(MIDDLE)
    lose(chunk(preprocessed, "histograms/tendencies", 1))
    with pytest.raises(DamagedFileError, match="lost its values of 2024-05-06T01"):
        preprocessed.store.read_tendencies(MIDDLE)
    verdicts, dataset, _ = mend()
    assert verdicts == {}
    np.testing.assert_array_equal(dataset.store.read_tendencies(MIDDLE), expected)


@pytest.mark.parametrize("name", HOURLY)
def test_damage_that_leaves_size_and_time_is_found_by_verify(archive, preprocessed, mend, name):
    file = chunk(preprocessed, name, 1)
    before = file.stat()
    garble(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    mend(verify=True)
    assert is_as_archived(Dataset.open(preprocessed.path), archive)


def test_an_hour_that_the_archive_has_no_more_is_a_gap_with_a_reason(archive, preprocessed, mend):
    shutil.rmtree(chunk(preprocessed, "data", 1).parents[2])
    del archive.present[0, MIDDLE]
    verdicts, dataset, _ = mend()
    assert verdicts == {1: "gap"}
    assert "fields are lost" in dataset.verdicts()[MIDDLE]["reason"]
    assert dataset.hours.tolist() == [START.item(), (START + 2 * HOUR).item()]
    archive.add_hour(MIDDLE)
    assert mend()[0] == {1: "ok"}


def test_a_copy_with_other_times_is_read_and_is_whole(archive, preprocessed, mend):
    os.utime(chunk(preprocessed, "data", 1), (1, 1))
    assert mend()[0] == {}


def test_gaps_of_years_are_one_verdict_and_one_line(archive, run):
    archive.add_hour(START + 19_900 * HOUR)
    archive.add_hour(START + 19_902 * HOUR)
    verdicts, dataset = run(archive)
    gaps = {hour: verdict for hour, verdict in verdicts.items() if verdict.status == "gap"}
    assert {hour: verdict.hours for hour, verdict in gaps.items()} == {3: 19_897, 19_901: 1}
    assert gaps[3].last == START + 19_899 * HOUR
    lines = (dataset.path / "status" / "verdicts.jsonl").read_text().splitlines()
    assert len(lines) == 7
    assert json.loads(lines[0])["last"] == str(START + 19_899 * HOUR)
    assert dataset.verdicts()[START + 9_000 * HOUR]["status"] == "gap"
    assert (dataset.status == HourStatus.GAP).sum() == 19_898
