from __future__ import annotations

import socket
from types import SimpleNamespace

import numpy as np
import pytest

from convcast.archive import Archive, analyses, estimate, fetch, latest, open_sources
from convcast.archive.simulated import publisher
from convcast.archive.web import http
from convcast.errors import MissingInputError, SettingsError
from convcast.settings.load import load_settings
from convcast.variables import FIELDS, select
from convcast.workspace import Workspace

SETTINGS = load_settings(flags={"simulation": {"start": "2024-05-01T00", "days": 22}})
REAL_HOURS = np.arange("2018-07-22T01", "2018-07-23T01", dtype="datetime64[h]")
DRY = select(["t2m", "d2m", "u10", "v10", "cape", "cin"])


@pytest.fixture
def opened(tmp_path):
    def opened(*names, settings=SETTINGS):
        return open_sources(
            [str(name) for name in names], workspace=Workspace(tmp_path / "workspace"), settings=settings
        )

    return opened


NOW = np.datetime64("2026-01-01")


def bring(archive, sources, hours, variables, lead, settings=SETTINGS):
    options = {"variables": variables, "lead": lead, "settings": settings.archive, "now": NOW}
    return list(fetch(archive, sources, hours, **options))


def test_real_folder_is_fetched(opened, shared_data, tmp_path):
    archive = Archive(tmp_path / "archive")
    with opened(shared_data / "hrrr_hourly") as sources:
        outcomes = bring(archive, sources, REAL_HOURS, DRY, 1)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert archive.hours(1).tolist() == REAL_HOURS.tolist()
    assert archive.simulated is False


def test_real_files_lie_where_the_bucket_has_them(opened, shared_data, tmp_path):
    archive = Archive(tmp_path / "archive")
    with opened(shared_data / "hrrr_hourly") as sources:
        bring(archive, sources, REAL_HOURS[:1], DRY, 1)
    assert (archive.root / "hrrr.20180722/conus/hrrr.t00z.wrfsfcf01.grib2").is_file()


def test_field_that_the_files_lack_is_named_with_what_to_do(opened, shared_data, tmp_path):
    with opened(shared_data / "hrrr_hourly") as sources:
        (outcome,) = bring(Archive(tmp_path / "archive"), sources, REAL_HOURS[:1], tuple(FIELDS.values()), 1)
    assert (outcome.status, "has no refc" in outcome.reason, "--fields" in outcome.reason) == ("bad", True, True)


def test_hour_that_the_folder_lacks_is_a_gap(opened, shared_data, tmp_path):
    with opened(shared_data / "hrrr_hourly") as sources:
        (outcome,) = bring(Archive(tmp_path / "archive"), sources, REAL_HOURS[-1:] + 1, DRY, 1)
    assert outcome.status == "gap"


def test_truncated_file_of_a_folder_is_bad_and_leaves_nothing(opened, shared_data, tmp_path):
    path = "hrrr.20180722/hrrr.t00z.wrfsfcf01.grib2"
    target = tmp_path / "folder" / path
    target.parent.mkdir(parents=True)
    target.write_bytes((shared_data / "hrrr_hourly" / path).read_bytes()[:-1])
    archive = Archive(tmp_path / "archive")
    with opened(tmp_path / "folder") as sources:
        (outcome,) = bring(archive, sources, REAL_HOURS[:1], DRY, 1)
    assert (outcome.status, list(archive.files())) == ("bad", [])


def test_file_under_another_hours_name_is_bad(opened, shared_data, tmp_path):
    target = tmp_path / "folder/hrrr.20180722/conus/hrrr.t05z.wrfsfcf01.grib2"
    target.parent.mkdir(parents=True)
    target.write_bytes((shared_data / "hrrr_hourly/hrrr.20180722/hrrr.t00z.wrfsfcf01.grib2").read_bytes())
    with opened(tmp_path / "folder") as sources:
        (outcome,) = bring(Archive(tmp_path / "archive"), sources, [np.datetime64("2018-07-22T06", "h")], DRY, 1)
    assert (outcome.status, "cycle of 2018-07-22T00" in outcome.reason) == ("bad", True)


def test_estimate_writes_nothing_and_foretells_the_bytes(opened, shared_data, tmp_path):
    archive = Archive(tmp_path / "archive")
    with opened(shared_data / "hrrr_hourly") as sources:
        requests = analyses(archive, REAL_HOURS, DRY, 1)
        foretold = list(estimate(requests, sources, settings=SETTINGS.archive, now=NOW))
        nothing = not archive.root.exists()
        bring(archive, sources, REAL_HOURS, DRY, 1)
    sizes = {o.valid: archive.path(o.valid, 1).stat().st_size for o in foretold}
    assert (nothing, {o.valid: o.bytes for o in foretold}) == (True, sizes)


def test_latest_hour_of_a_folder(opened, shared_data):
    with opened(shared_data / "hrrr_hourly") as sources:
        assert latest(sources, lead=1) == REAL_HOURS[-1]


def test_folder_without_the_lead_says_which_it_has(opened, shared_data):
    with opened(shared_data / "hrrr_hourly") as sources, pytest.raises(MissingInputError, match="lead 0, but of 1"):
        latest(sources, lead=0)


@pytest.mark.parametrize(("minute", "expected"), [("17:59", "2026-10-22T16"), ("18:00", "2026-10-22T17")])
def test_latest_hour_by_the_clock(opened, minute, expected):
    with opened("aws") as sources:
        assert latest(sources, now=np.datetime64(f"2026-10-22T{minute}")) == np.datetime64(expected, "h")


def test_latest_simulated_hour_is_the_last_of_its_days(opened):
    with opened("simulated") as sources:
        assert latest(sources) == np.datetime64("2024-05-22T23", "h")


def test_simulated_world_is_served_to_the_ordinary_fetch(opened, tmp_path, monkeypatch):
    class Flat:
        def __init__(self, ny, nx, seed):
            self.terrain, self.land = np.zeros((ny, nx)), np.ones((ny, nx))

        def nature_run(self, start, hours, state=None):
            yield from ((start + hour, SimpleNamespace()) for hour in range(hours))

        def observe(self, state, time):
            return {name: np.full((1, *self.land.shape), 1.0) for name in FIELDS}

    monkeypatch.setattr(publisher, "World", Flat)
    archive = Archive(tmp_path / "archive")
    with opened("simulated") as sources:
        hours = np.arange("2024-05-02T22", "2024-05-03T04", dtype="datetime64[h]")
        outcomes = bring(archive, sources, hours, tuple(FIELDS.values()), 0)
    assert [o.status for o in outcomes] == ["ok"] * 6
    assert archive.simulated is True


@pytest.mark.usefixtures("short_spin_up")
def test_the_world_itself_is_published_and_fetched(opened, tmp_path):
    settings = load_settings(flags={"simulation": {"size": 32, "start": "2024-05-09T00", "days": 1}})
    archive = Archive(tmp_path / "archive")
    with opened("simulated", settings=settings) as sources:
        hours = np.arange("2024-05-09T00", "2024-05-09T06", dtype="datetime64[h]")
        outcomes = bring(archive, sources, hours, tuple(FIELDS.values()), 0)
    assert [o.status for o in outcomes] == ["ok"] * 6


def test_empty_folder_is_one_sentence(opened, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="holds no HRRR files"), opened(tmp_path / "empty"):
        pass


@pytest.mark.parametrize(("name", "advice"), [("amazon", "use aws"), ("gogle", "did you mean google?")])
def test_unknown_source_is_refused_with_a_suggestion(opened, name, advice):
    with pytest.raises(SettingsError) as caught, opened(name):
        pass
    assert caught.value.advice.startswith(advice)


def test_simulated_is_not_mixed_with_other_sources(opened):
    with pytest.raises(SettingsError, match="never mixed"), opened("simulated", "aws"):
        pass


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_no_network_surfaces_at_once_and_says_how_to_go_on(opened, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(http, "_wait", lambda number: waits.append(number) or 0.001)
    hours = np.arange(REAL_HOURS[0], REAL_HOURS[0] + 400)
    names = f"http://127.0.0.1:{closed_port()}", "http://no-such-host.invalid"
    with opened(*names) as sources, pytest.raises(MissingInputError, match="no connection can be made") as caught:
        bring(Archive(tmp_path / "archive"), sources, hours, DRY, 1)
    assert "convcast demo" in caught.value.advice
    archive = SETTINGS.archive
    assert len(waits) <= archive.workers * len(names) * archive.retries, "not for each of 400 hours"


def test_dead_source_does_not_hide_a_living_one(opened, shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    with opened(f"http://127.0.0.1:{closed_port()}", shared_data / "hrrr_hourly") as sources:
        outcomes = bring(Archive(tmp_path / "archive"), sources, REAL_HOURS, DRY, 1)
    assert {o.status for o in outcomes} == {"ok"}
