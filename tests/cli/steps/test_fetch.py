"""`convcast fetch` as it is typed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convcast.grib import encode, read_messages
from convcast.grid import Grid
from convcast.variables import FIELDS, STATIC

INIT = np.datetime64("2024-05-01T00", "h")
GRID = Grid(8, 9, 400, 900)


def publish(root, init, lead):
    """One HRRR file of two fields, in a folder laid out like the bucket."""
    messages = [
        encode(
            np.arange(72.0).reshape(GRID.shape) + 280,
            key=variable.grib,
            grid=GRID,
            init=init,
            lead_hours=lead,
            simulated=False,
        )
        for variable in (FIELDS["t2m"], FIELDS["d2m"], *STATIC.values())
    ]
    day, hour = str(init).replace("-", "").split("T")
    path = root / f"hrrr.{day}/conus/hrrr.t{hour}z.wrfsfcf{lead:02d}.grib2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(messages))


@pytest.fixture
def folder(tmp_path):
    """Analyses of six hours, and what was forecast for them one to three hours before."""
    for hour in range(6):
        for lead in range(4):
            publish(tmp_path / "hrrr", INIT + hour - lead, lead)
    return "hrrr"


PERIOD = ("--start", "2024-05-01T00", "--end", "2024-05-01T05", "--fields", "t2m,d2m", "--json", "-q")


def test_every_hour_is_named_with_its_outcome(convcast, folder):
    said = json.loads(convcast("fetch", "--source", folder, *PERIOD).stdout)
    assert [(o["valid"][-2:], o["status"]) for o in sorted(said["outcomes"], key=lambda o: o["valid"])] == [
        (f"{hour:02d}", "ok") for hour in range(6)
    ]
    again = json.loads(convcast("fetch", "--source", folder, *PERIOD).stdout)
    assert again["counts"] == {"cached": 6}


def test_dewpoints_of_the_cycle_before_are_counted_fetched_and_preprocessed(convcast, folder, tmp_path):
    before = ("--dewpoint", "previous_f01")
    counted = json.loads(convcast("fetch", "--source", folder, *PERIOD, *before, "--dry-run").stdout)
    assert (counted["files"], counted["to_fetch"], counted["messages"]) == (12, 12, 12)
    said = json.loads(convcast("fetch", "--source", folder, *PERIOD, *before).stdout)
    assert said["counts"] == {"ok": 12}
    (archive,) = (tmp_path / "w").glob("archive/hrrr")
    for lead, field in ((0, "t2m"), (1, "d2m")):
        files = sorted(archive.glob(f"hrrr.*/conus/*wrfsfcf0{lead}.grib2"))
        assert len(files) == 6
        for file in files:
            headers = [message.header for message in read_messages(file)]
            assert [(header.key, header.lead_hours) for header in headers] == [(FIELDS[field].grib, lead)]
    done = json.loads(convcast("preprocess", "--json", "-q").stdout)
    reasons = {entry["reason"] for entry in done["rejected"]}
    assert len(reasons) == 1, "the new workspace keeps the option: both files are read, and hold no weather"
    assert all("d2m rises to" in reason and "missing" not in reason for reason in reasons)


def test_time_lagged_forecasts_lie_beside_the_analyses(convcast, folder, tmp_path):
    convcast("fetch", "--source", folder, *PERIOD)
    done = convcast("fetch", "--what", "time-lagged", "--leads", "1-3", "--source", folder, *PERIOD)
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (0, {"ok": 18})
    assert len(list((tmp_path / "w/archive/hrrr").rglob("*wrfsfcf03.grib2"))) == 6
    assert (tmp_path / "w/archive/hrrr/hrrr.20240430/conus/hrrr.t23z.wrfsfcf01.grib2").is_file()


def test_forcing_comes_with_the_analyses_and_the_dry_run_counts_it(convcast, folder, tmp_path):
    forced = ("--set", "model.forcing=hrrr", "--set", "model.leads=[1,2]")
    counted = json.loads(convcast("fetch", "--source", folder, *PERIOD, *forced, "--dry-run").stdout)
    # Six analyses; leads 1, 2 and 3 of the cycles before and of these hours, f03 of the last cycle excepted,
    # and of the hour before the first only 2 and 3.
    alone = json.loads(convcast("fetch", "--source", folder, *PERIOD, "--dry-run").stdout)
    assert (alone["hours"], alone["to_fetch"]) == (6, 6)
    assert counted["files"] == 6 + 6 * 3 - 1 + 2
    assert counted["to_fetch"] == len(published(tmp_path / folder, counted["files"]))
    assert counted["bytes"] > 2 * alone["bytes"]
    assert not (tmp_path / "w/archive").exists()

    done = convcast("fetch", "--source", folder, *PERIOD, *forced, "--max-missing", "1")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["counts"]["ok"]) == (0, counted["to_fetch"])
    late = [o["file"] for o in said["outcomes"] if o["status"] != "ok"]
    assert len(late) == counted["files"] - counted["to_fetch"]
    again = json.loads(convcast("fetch", "--source", folder, *PERIOD, *forced, "--max-missing", "1").stdout)
    assert again["counts"]["cached"] == counted["to_fetch"]


def published(folder, _):
    """The files of the folder that force forecasts of 1 and 2 h from the six hours, and their analyses."""
    wanted = {(hour, 0) for hour in range(6)}
    wanted |= {(hour - age, lead + age) for hour in range(6) for lead in (1, 2) for age in (0, 1)}
    there = set()
    for path in folder.rglob("*.grib2"):
        day, hour, lead = path.parts[-3][-8:], path.name[6:8], path.name[-8:-6]
        init = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{hour}", "h")
        there.add((int((init - INIT).astype(int)), int(lead)))
    return wanted & there


def test_dry_run_counts_files_and_bytes_and_writes_none(convcast, folder, tmp_path):
    done = convcast("fetch", "--what", "time-lagged", "--leads", "1-3", "--source", folder, "--dry-run", *PERIOD)
    said = json.loads(done.stdout)
    assert (said["files"], said["to_fetch"], said["messages"]) == (18, 18, 36)
    assert said["bytes"] > 18 * 200
    assert not (tmp_path / "w/archive").exists()


def test_verify_looks_into_every_room(convcast, folder, tmp_path):
    convcast("fetch", "--what", "time-lagged", "--leads", "1", "--source", folder, *PERIOD)
    path = tmp_path / "w/archive/refs/refs.20261120/06/ensprod/refs.t06z.prob.f03.conus.grib2"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not what was fetched")
    done = convcast("fetch", "--verify", "--json", "-q")
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (3, {"ok": 6, "bad": 1})


def test_missing_reference_is_exit_code_3(convcast, folder):
    done = convcast("fetch", "--what", "refs", "--source", folder, *PERIOD)
    assert (done.exit_code, set(json.loads(done.stdout)["counts"])) == (3, {"ok", "gap"})


def test_leads_that_no_cycle_has_are_named(convcast, folder):
    done = convcast("fetch", "--what", "hrrrcast", "--leads", "49,50", "--source", folder, *PERIOD)
    assert done.exit_code == 2
    assert "no cycle of hrrrcast has forecasts of these hours at leads 49, 50 h" in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--what", "sref"), "there is no --what sref"),
        (("--leads", "1-3"), "--leads needs --what with forecasts to compare with"),
        (("--what", "refs", "--leads", "0-3"), "a lead of 0 hours is the analysis itself"),
        (("--what", "href", "--only", "members"), "--only members does not go with --what href"),
        (("--what", "refs", "--only", "mean"), "--only mean does not go with --what refs"),
        (("--what", "refs", "--source", "simulated"), "the simulated world has no refs"),
    ],
)
def test_options_that_do_not_go_together(convcast, words, reason):
    done = convcast("fetch", *words)
    assert (done.exit_code, reason in done.stderr) == (2, True), done.stderr
