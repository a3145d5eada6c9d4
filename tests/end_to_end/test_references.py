"""Reference forecasts and observations are fetched and compared as a user does, by hand and in a cycle."""

from __future__ import annotations

import json
import shutil

import pytest
import xarray as xr
from unpainted import nothing_drawn

pytestmark = pytest.mark.slow

SETTINGS = """
[simulation]
start = "2024-05-10T00"
days = 4
size = 32
[sampling]
members = 4
steps = 3
threads = 1
[verification]
against = ["hrrr", "time-lagged", "hrrrcast"]
truths = ["analyses", "mrms"]
lagged_ages = [1, 2]
resamples = 100
[operations]
max_catch_up = 1
page_fields = ["refc"]
"""


@pytest.fixture(autouse=True)
def _undrawn():
    """Pictures are drawn in test_cycle.py and tests/verification."""
    with nothing_drawn():
        yield


@pytest.fixture
def workspace(five_verbs, tmp_path):
    """Its last hour is 2024-05-12T23; forecasts of T12, T15 and T18 are there."""
    root = tmp_path / "w"
    shutil.copytree(five_verbs[0], root)
    with open(root / "convcast.toml", "a") as file:
        file.write(SETTINGS)
    return root


def rows(folder):
    return json.loads((folder / "scores.json").read_text())


@pytest.mark.parametrize(("only", "compared"), [("members", "systems"), ("products", "products")])
def test_hrrrcast_is_fetched_and_compared(workspace, convcast, only, compared):
    hours = ("--start", "2024-05-12T13", "--end", "2024-05-12T13", "--leads", "1")
    fetched = convcast(workspace, "fetch", "--what", "hrrrcast", "--only", only, *hours)
    assert fetched["counts"] == {"ok": 18 if only == "members" else 2}
    # Mean and spread are compared with as many of our members as HRRRCast has.
    more = ["--members", "18", "--steps", "1", "--init", "2024-05-12T12"] if only == "products" else []
    if more:
        shutil.rmtree(workspace / "forecasts" / "20240512T12.zarr")
        convcast(workspace, "sample", *more)
    convcast(
        workspace, "verify", "--init", "2024-05-12T12", "--against", "hrrrcast", "--truth", "analyses", "--name", "cast"
    )
    found = rows(workspace / "verification" / "cast")
    assert "hrrrcast" in found["facts"][compared]
    score = "crps" if only == "members" else "crps_gaussian"
    theirs = [r for r in found["scores"] if (r["system"], r["score"], r["field"]) == ("hrrrcast", score, "t2m")]
    assert theirs
    assert all(0 < row["value"] < 3 for row in theirs)
    assert "HRRRCast" in (workspace / "verification" / "cast" / "report.html").read_text()


def test_a_reference_that_was_not_fetched_is_named_with_the_command_that_fetches_it(workspace, command_line):
    finished = command_line(
        workspace, "verify", "--init", "2024-05-12T12", "--against", "hrrrcast", "--truth", "analyses"
    )
    assert finished.exit_code == 3
    assert "convcast fetch --what hrrrcast --leads 1 --start 2024-05-12T13" in finished.stderr


def test_a_cycle_fetches_what_it_verifies_with(workspace, in_one_process):
    in_one_process(workspace, "cycle", "--now", "2024-05-13T02:05")
    archive = workspace / "archive"
    assert len(list((archive / "hrrrcast").rglob("*.t00z.pgrb2.f01.grib2"))) == 20
    assert list((archive / "mrms").rglob("mrms.t01z.*.grib2"))
    found = rows(workspace / "verification" / "operational")
    assert set(found["facts"]["systems"]) == {"convcast", "hrrr", "time-lagged", "hrrrcast"}
    by_truth = {(row.get("truth", "analyses"), row["system"]) for row in found["scores"] if row["field"] == "refc"}
    assert {(truth, name) for truth in ("analyses", "mrms") for name in found["facts"]["systems"]} <= by_truth


def test_a_cycle_waits_for_an_hrrrcast_that_is_not_published_yet(workspace, in_one_process):
    in_one_process(workspace, "cycle", "--now", "2024-05-13T22:05", "--set", 'verification.truths=["analyses"]')
    entry = json.loads((workspace / "cycle.json").read_text())
    (verified,) = [stage for stage in entry["stages"] if stage["stage"] == "verify"]
    assert verified["about"].endswith("which wait for hrrrcast")
    assert entry["code"] == 0


def test_products_are_of_calibrated_members_and_stay_as_they_were_made(workspace, convcast):
    few = ["--members", "4", "--steps", "1", "--keep", "products", "--set", "sampling.calibration=true"]
    convcast(workspace, "sample", "--init", "2024-05-12T08/2024-05-12T10/1h", *few)
    learnt = convcast(workspace, "calibrate", "--until", "2024-05-12T11")
    assert learnt["cases"] == 3
    convcast(workspace, "sample", "--init", "2024-05-12T11/2024-05-12T13/2h", *few)

    def calibration(hour):
        with xr.open_zarr(workspace / "products" / f"20240512T{hour}.zarr", consolidated=False) as made:
            return made.attrs["calibration"]

    assert [calibration(hour)[:11] for hour in ("10", "11", "13")] == ["none", "20240512T11", "20240512T11"]
    assert not (workspace / "forecasts" / "20240512T11.zarr").exists()
    assert (workspace / "raw" / "20240512T11.zarr").is_dir()
    # The newest calibration knows nothing later than 11 UTC, but the products of this hour were made before it.
    convcast(workspace, "calibrate", "--until", "2024-05-12T10")
    again = convcast(workspace, "sample", "--init", "2024-05-12T10", *few)
    assert again["drawn"] == 0
    assert calibration("10") == "none"
