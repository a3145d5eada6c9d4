from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from convcast.archive import Forcing, HrrrForecast
from convcast.dataset import Dataset, HourStatus, preprocess_forcing, window
from convcast.dataset.forcing.store import FOLDER
from convcast.errors import LockedError
from convcast.files import lock
from convcast.grid import Grid
from convcast.notation import HOUR

START = np.datetime64("2024-05-06T00", "h")
FORCING = Forcing((1, 3), (0, 1))


@pytest.fixture
def path(preprocessed):
    return preprocessed.path


@pytest.fixture(scope="module")
def published(three_hours, tmp_path_factory):
    """Everything that forces the three hours, except the older cycle of the first."""
    made = replace(three_hours, root=tmp_path_factory.mktemp("published"), present={})
    for forecast in FORCING.needed(START + np.arange(3) * HOUR):
        if forecast.cycle >= START:
            made.add_hour(forecast.cycle + forecast.lead * HOUR, lead=forecast.lead)
    return made


@pytest.fixture
def forecasts(archive, published):
    """The archive of the three hours with what is published of the forecasts."""
    shutil.copytree(published.root, archive.root, dirs_exist_ok=True)
    archive.present.update(published.present)
    return archive


def add(archive, path, **how):
    options = {"forcing": FORCING, "max_missing_points": 0.001} | how
    return list(preprocess_forcing(archive, path, **options))


def by_status(verdicts, status):
    return [v.forecast for v in verdicts if v.status == status]


def test_archived_forecasts_are_added_exactly_and_gaps_recorded(forecasts, path):
    verdicts = add(forecasts, path)
    needed = FORCING.needed(START + np.arange(3) * HOUR)
    assert by_status(verdicts, "ok") == [f for f in needed if f.cycle >= START]
    assert by_status(verdicts, "gap") == [HrrrForecast(START - HOUR, lead) for lead in (2, 4)]
    dataset = Dataset.open(path)
    for forecast in by_status(verdicts, "ok"):
        expected = np.stack(list(forecasts.weather(forecast.cycle + forecast.lead * HOUR).values()))
        np.testing.assert_array_equal(dataset.read_forecast(forecast), expected)


def test_a_second_run_does_nothing(forecasts, path):
    add(forecasts, path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    assert add(forecasts, path) == []
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_gap_is_filled_when_it_comes(forecasts, path):
    add(forecasts, path)
    forecasts.add_hour(START + HOUR, lead=2)
    assert by_status(add(forecasts, path), "ok") == [HrrrForecast(START - HOUR, 2)]


def test_half_a_cycle_leaves_the_other_half_and_the_older_cycle(forecasts, path):
    del forecasts.present[3, START + 5 * HOUR]
    verdicts = add(forecasts, path)
    init = START + 2 * HOUR
    assert HrrrForecast(init, 3) in by_status(verdicts, "gap")
    dataset = Dataset.open(path)
    assert dataset.ages(FORCING, init, 1) == (0, 1)
    assert dataset.ages(FORCING, init, 3) == (1,)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"grid": Grid(24, 32, 301, 800)}, "is on another grid (rows 301:325"),
        ({"simulated": True}, "is simulated, unlike the dataset"),
        ({"changed": {"t2m": None}}, "t2m is missing"),
        ({"changed": {"t2m": np.full((24, 32), 500.0)}}, "t2m rises to 500"),
    ],
)
def test_a_bad_forecast_is_rejected_and_stops_no_other(forecasts, path, how, reason):
    forecasts.add_hour(START + 2 * HOUR, lead=1, **how)
    verdicts = add(forecasts, path)
    (bad,) = [v for v in verdicts if v.status == "rejected"]
    assert bad.forecast == HrrrForecast(START + HOUR, 1)
    assert reason in bad.reason
    assert len(by_status(verdicts, "ok")) == 9
    assert add(forecasts, path) == [], "it is not read again while its file is the same"
    forecasts.add_hour(START + 2 * HOUR, lead=1)
    assert by_status(add(forecasts, path), "ok") == [bad.forecast]


@pytest.mark.parametrize(("cycles", "leads"), [(1, 0), (0, 1), (1, -1)])
def test_a_file_of_another_cycle_or_lead_than_its_name_is_rejected(forecasts, path, cycles, leads):
    """Its messages say another init time, another lead, or both with the same valid time."""
    valid, lead = START + 2 * HOUR, 1
    wrong = [
        forecasts.message(name, values, valid + (cycles + leads) * HOUR, lead=lead + leads)
        for name, values in forecasts.weather(valid).items()
    ]
    forecasts.add(valid, b"".join(wrong), lead=lead)
    (bad,) = [v for v in add(forecasts, path) if v.status == "rejected"]
    assert "where the file's name says 2024-05-06T01 + 1 h" in bad.reason


def test_lost_forecasts_are_taken_from_the_archive_again_or_become_gaps(forecasts, path):
    add(forecasts, path)
    kept, gone = HrrrForecast(START, 1), HrrrForecast(START, 3)
    for forecast in (kept, gone):
        (folder,) = (path / FOLDER / "data").glob(f"c/{int((START - np.datetime64('2014-07-01T00', 'h')) / HOUR)}")
        shutil.rmtree(folder / str(forecast.lead))
    del forecasts.present[3, START + 3 * HOUR]
    told = []
    verdicts = add(forecasts, path, tell=told.append)
    assert (by_status(verdicts, "ok"), by_status(verdicts, "gap")) == ([kept], [gone])
    assert told == [f"2 HRRR forecasts lost their fields, the first is that of {kept}"]


def test_verify_reads_every_forecast_and_restores_a_spoilt_one(forecasts, path):
    add(forecasts, path)
    spoilt = HrrrForecast(START, 1)
    (file,) = (path / FOLDER / "data").glob(f"c/{int((START - np.datetime64('2014-07-01T00', 'h')) / HOUR)}/1/0/0/0")
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert add(forecasts, path) == []
    assert by_status(add(forecasts, path, verify=True), "ok") == [spoilt]


def test_a_run_that_is_killed_anywhere_is_continued(forecasts, path):
    unbroken = len(FORCING.needed(START + np.arange(3) * HOUR))
    for stop_after in (1, 3, 2):
        run = preprocess_forcing(forecasts, path, forcing=FORCING, max_missing_points=0.001)
        for _ in range(stop_after):
            next(run)
        run.close()
    add(forecasts, path)
    status = Dataset.open(path).forecast_status
    assert len(status) == unbroken
    assert sum(code == HourStatus.OK for code in status.values()) == unbroken - 2


def test_pruned_forecasts_are_not_taken_again(forecasts, path):
    from convcast.dataset.forcing.store import ForcingStore

    add(forecasts, path)
    ForcingStore.prepare(path).prune([START])
    assert add(forecasts, path) == []


def test_two_runs_at_once_are_refused(forecasts, path):
    with lock(path.parent / "locks" / f"{path.name}.lock", "preprocessing"), pytest.raises(LockedError):
        add(forecasts, path)


def test_a_crop_is_cut_from_the_forecast_as_from_the_analysis(forecasts, run):
    path = run(forecasts, region="304:320,810:900")[1].path
    add(forecasts, path)
    expected = np.stack(list(forecasts.weather(START + HOUR).values()))[:, 4:20, 10:]
    np.testing.assert_array_equal(Dataset.open(path).read_forecast(HrrrForecast(START, 1)), expected)


def test_a_window_has_the_forecast_valid_at_its_target(forecasts, path):
    add(forecasts, path)
    dataset, init = Dataset.open(path), START + 2 * HOUR
    forecast = FORCING.forecast(init, 3, 1)
    part = slice(3, 11), slice(4, 20)
    made = window(dataset, init, 3, history=2, rows=part[0], columns=part[1], forcing=(forecast, 1))
    expected = np.stack(list(forecasts.weather(init + 3 * HOUR).values()))[(..., *part)]
    np.testing.assert_array_equal(made.forcing, expected)
    assert made.age == 1
    assert made.roll(1, 2).forcing.shape == made.forcing.shape
    assert window(dataset, init, 3, history=2).forcing is None
