"""`convcast cycle` with the real verbs, on a copy of the workspace in which they have run, in the hours after it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from convcast.files import lock
from convcast.operations.stages import PROGRAM

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
against = ["persistence"]
resamples = 100
[operations]
max_catch_up = 1
page_fields = ["refc"]
[retention]
archive_hours = 24
forecasts_days = 0.3
"""


@pytest.fixture(scope="module")
def workspace(five_verbs, tmp_path_factory):
    """Its last hour is 2024-05-12T23; forecasts of T12, T15 and T18 are there."""
    root = tmp_path_factory.mktemp("cycle") / "w"
    shutil.copytree(five_verbs[0], root)
    with open(root / "convcast.toml", "a") as file:
        file.write(SETTINGS)
    return root


@pytest.fixture(scope="module")
def first(workspace, in_one_process):
    """The first two stages are processes of their own; the others would take seconds each to import torch."""
    return json.loads(in_one_process(workspace, *words("2024-05-13T02:05"), processes=["fetch", "preprocess"]).stdout)


def words(now):
    return ["cycle", "--json", "--now", now, "-q"]


def test_everything_that_is_due_is_done_newest_first(workspace, first):
    stages = [(stage["stage"], stage["outcome"]) for stage in first["stages"]]

    assert [name for name, _ in stages[:4]] == ["fetch", "preprocess", "sample", "publish"]
    assert {outcome for _, outcome in stages} == {"ok"}
    assert [stage["about"] for stage in first["stages"] if stage["stage"] == "sample"] == [
        "2024-05-13T01",
        "2024-05-13T00",
    ]
    assert first["newest"] == "2024-05-13T01"
    latest = json.loads((workspace / "latest.json").read_text())
    assert (latest["init"], latest["members"], latest["valid"]) == ("2024-05-13T01", 4, ["2024-05-13T02"])
    assert (workspace / latest["forecast"] / "zarr.json").is_file()
    assert (workspace / latest["report"]).is_file()
    page = (workspace / "latest" / "index.html").read_text()
    assert "SIMULATED weather" in page
    assert "2024-05-13 01:00 UTC" in page
    assert "Not verified yet" not in page, "the second publishing has the scores"
    assert "convcast_cycle_exit_code 0" in (workspace / "metrics.prom").read_text()


def test_due_cases_are_scored_and_kept(workspace, first):
    (path,) = (workspace / "verification" / "operational" / "history").iterdir()
    cases = [json.loads(line) for line in path.read_text().splitlines()]

    assert {(case["init"], case["lead"]) for case in cases} >= {("2024-05-13T00", 1)}
    assert all(case["scores"]["t2m"]["convcast"]["crps"] > 0 for case in cases)


def test_old_files_are_deleted(workspace, first):
    names = sorted(path.name for path in (workspace / "forecasts").iterdir())
    hours = len(list((workspace / "archive" / "hrrr").glob("hrrr.*/conus/*.grib2")))

    assert names == ["20240512T18.zarr", "20240513T00.zarr", "20240513T01.zarr"]
    assert hours == 25
    assert first["pruned"]["counts"]["forecasts"] >= 2
    assert (workspace / "archive" / "hrrr" / "static.grib2").exists()


def test_once_more_changes_nothing(workspace, first, command_line):
    def state():
        return {
            path: path.stat().st_mtime_ns
            for room in ("archive", "dataset.zarr", "forecasts", "latest", "verification")
            for path in (workspace / room).rglob("*")
        }

    before = state()
    finished = command_line(workspace, *words("2024-05-13T02:25"))

    assert finished.exit_code == 0
    assert finished.stderr == ""
    assert [stage["stage"] for stage in json.loads(finished.stdout)["stages"]] == ["publish", "prune"]
    assert state() == before


def test_a_second_cycle_at_once_exits_with_5(workspace, first, command_line):
    with lock(workspace / "locks" / "cycle.lock", "cycling"):
        assert command_line(workspace, *words("2024-05-13T03:05")).exit_code == 5


def test_told_to_end_it_ends_with_what_it_started(workspace, first):
    process = subprocess.Popen(
        [*PROGRAM, *words("2024-05-13T03:05"), "-w", str(workspace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stage = []
    for _ in range(600):
        stage = [child.pid for child in psutil.Process(process.pid).children()]
        if stage or process.poll() is not None:
            break
        time.sleep(0.1)
    assert stage
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert "run the same command again" in said
    for child in stage:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    last = json.loads((workspace / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["verb"], last["outcome"]) == ("cycle", "interrupted")
    assert list(workspace.rglob("*.partial")) == []
