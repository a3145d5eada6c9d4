"""Hours of cycles in fast time that are killed, started twice, and kept waiting by a publisher that is late.

The cycle, fetch and preprocess are the real ones; sampling and scoring, which would take minutes, are stand-ins.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from convcast import grib
from convcast.archive import Archive, verify_archive
from convcast.dataset import Dataset, Status
from convcast.grid import Grid
from convcast.notation import HOUR, compact
from convcast.operations.holdings import Surveyor
from convcast.operations.plan import due_cases
from convcast.operations.situation import limits_of
from convcast.settings import load_settings
from convcast.variables import FIELDS, STATIC
from convcast.workspace import Workspace

pytestmark = pytest.mark.slow

FIRST = np.datetime64("2024-05-20T00", "h")
CYCLES = 11
LATE = {4, 9}
"""Hours that are published when the next ones are."""
LOST = {7}
"""Hours that never are."""
OFF = {5, 6}
"""Hours in which no cycle runs."""
GRID = Grid(24, 32, 300, 800)
SETTINGS = """
preset = "demo"
[archive]
sources = ["{bucket}"]
late_hours = 2
workers = 2
[sampling]
members = 4
[operations]
max_catch_up = 5
least_free = 0
[retention]
archive_hours = 10
dataset_hours = 12
forecasts_days = 0.34
"""
NURSERY = Path(__file__).with_name("cycle_nursery.py")


def publish(bucket: Path, number: int) -> None:
    init = FIRST + number * HOUR
    generator = np.random.default_rng(100 + number)
    typical = {"refc": 10, "t2m": 295, "d2m": 285, "u10": 5, "v10": -3, "cape": 900, "cin": -80, "orog": 200, "lsm": 1}
    content = b""
    for name, variable in (FIELDS | STATIC).items():
        values = typical[name] + (0 if name in STATIC else generator.normal(size=GRID.shape))
        values = np.full(GRID.shape, values) if name in STATIC else values
        content += grib.encode(values, key=variable.grib, grid=GRID, init=init, lead_hours=0, simulated=False)
    day, hour = compact(init).split("T")
    path = bucket / f"hrrr.{day}" / "conus" / f"hrrr.t{hour}z.wrfsfcf00.grib2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(content)
    path.with_suffix(".part").rename(path)


@pytest.fixture
def place(tmp_path):
    made = Workspace(tmp_path / "w")
    folder = made.model("demo")
    folder.mkdir(parents=True)
    made.settings_file.write_text(SETTINGS.format(bucket=tmp_path / "bucket"))
    hours = [str(FIRST - 900 * HOUR), str(FIRST - 800 * HOUR)]
    said = {"training_hours": hours, "model": {"history": 3, "leads": [1]}}
    (folder / "model.json").write_text(json.dumps(said))
    (folder / "model.safetensors").touch()
    return made


@pytest.fixture
def nursery(place):
    with subprocess.Popen(
        [sys.executable, str(NURSERY), str(place.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def run(number: int, kill: tuple[int, float, str] | None = None, *, count: int = 1) -> list[int]:
            """Exit codes of `count` cycles at the time that this hour should be there.

            `kill`: in which stage, counted from 1, how many seconds after it began, and `all` or the cycle `alone`.
            """
            print(f"{FIRST + (number + 1) * HOUR}:05", count, *(kill or ()), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def litter(place):
    """What kills leave that come at worse moments than those of this test."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    forecast = sorted(place.forecasts.glob("*.zarr"))[-1]
    for path in (
        place.root / f"latest.json.{gone.pid}.partial",
        place.verification("operational") / f"scores.zarr.{gone.pid}.partial" / "crps",
        place.forecasts / ".20240519T20.zarr.1a2b3c.partial" / "t2m",
        forecast / "t2m" / "c" / "0.1a2b3c.partial",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_killed_doubled_and_late_cycles_lose_nothing_and_leave_nothing_half_written(place, nursery, tmp_path):
    chance = random.Random(3)
    bucket = tmp_path / "bucket"
    for number in range(-5, 0):
        publish(bucket, number)
    codes = Counter()
    for number in range(CYCLES):
        for one in (number - 1, number):
            if (one == number and one not in LATE | LOST) or (one == number - 1 and one in LATE):
                publish(bucket, one)
        if number in OFF:
            continue
        if number % 5 == 4:
            found = nursery(number, count=2)
            assert 5 in found, "the second of two leaves at once"
        else:
            kill = chance.randint(0, 4), chance.uniform(0, 0.4), chance.choice(["all", "alone"])
            found = nursery(number, kill)
        codes.update(found)
        assert not [path for path in (place.root / "forecasts").glob("*.zarr") if not (path / "zarr.json").is_file()]
    assert codes[-signal.SIGKILL] >= 4, codes
    assert set(codes) <= {-signal.SIGKILL, 0, 3, 4, 5}, codes

    litter(place)
    for path in place.root.rglob("*.partial"):  # fast time: what was left an hour ago is seconds old
        if path.exists():
            os.utime(path, (0, 0))
    last = CYCLES - 1
    for _ in range(8):  # what killed cycles had started may still be at it
        if nursery(last) == [0]:
            break
        time.sleep(0.5)
    assert nursery(last) == [0]

    settings = load_settings(place.settings_file)
    expected = FIRST + last * HOUR
    there = Surveyor(place, settings).survey(expected, since=expected - 100 * HOUR)
    hours = [expected - age * HOUR for age in range(last + 1)]
    named = {str(FIRST + lost * HOUR) for lost in LOST}

    # Every hour is complete, or named as a gap.
    unsound = {str(hour) for hour in hours if there.status.get(hour) not in (Status.OK, Status.PRUNED)}
    assert unsound == named
    assert all(there.status[FIRST + lost * HOUR] == Status.GAP for lost in LOST)
    assert json.loads(place.last_cycle.read_text())["gaps"] == sorted(
        name for name in named if np.datetime64(name, "h") > expected - 9 * HOUR
    )
    assert {outcome.status for outcome in verify_archive(Archive(place.archive / "hrrr"))} == {"ok"}
    assert np.isfinite(Dataset.open(place.dataset).read(Dataset.open(place.dataset).hours)).all()

    # Every forecast that can be there is, once, with its own members.
    possible = [h for h in hours[:6] if all(there.ok(h - back * HOUR) for back in range(3))]
    assert len(possible) >= 3
    assert {init for init, one in there.forecasts.items() if one.complete} >= set(possible)
    assert due_cases(there, limits_of(settings)) == frozenset()
    lines = [json.loads(line) for path in place.root.rglob("history/*.jsonl") for line in path.read_text().splitlines()]
    cases = Counter((line["init"], line["lead"]) for line in lines)
    assert set(cases.values()) == {1}, "no case is scored twice"
    assert len(cases) >= len(possible) - 1

    # Nothing half-written, nothing beyond its bound, and every line of the journal whole.
    assert list(place.root.rglob("*.partial")) == []
    assert len(list(place.archive.rglob("*.grib2"))) <= 1 + 10 + 1
    assert len(Dataset.open(place.dataset).store.kept()) <= 12 + 1
    assert len(list(place.forecasts.iterdir())) <= 8 + 1
    assert all(json.loads(line)["verb"] for line in (place.root / "journal.jsonl").read_text().splitlines())
