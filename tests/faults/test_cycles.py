"""Hours of cycles in fast time, with all that can go wrong in an hour going wrong at one time or another.

The cycle, fetch and preprocess are the real ones; sampling and scoring, which would take minutes, are stand-ins.
CHAOS_HOURS=48 CHAOS_SEED=4 pytest -s -k chaos: more hours, and other instants; the figures are printed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import laboratory as lab
import numpy as np
import pytest
from cycle_checks import WorkspaceChecks
from cycle_publisher import Publisher

from convcast.archive import Archive, verify_archive
from convcast.archive.simulated.server import serve
from convcast.dataset import HourStatus
from convcast.files import HOST
from convcast.notation import HOUR, compact
from convcast.operations.inventory import InventoryReader
from convcast.operations.plan import due_cases
from convcast.operations.status import cycle_limits
from convcast.settings.load import load_settings
from convcast.workspace import Workspace

pytestmark = pytest.mark.slow

FIRST = np.datetime64("2024-05-20T00", "h")
HOURS = int(os.environ.get("CHAOS_HOURS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", "3"))
PERIOD = 12
"""Hours after which the same kinds of things go wrong again, at other instants. Numbers below are within a period."""
LATE = {4: 1, 5: 2, 9: 1}
"""Hours that are published so many hours late."""
LOST = {7}
"""Hours that never are."""
IMPLAUSIBLE = {1}
"""Hours whose first upload is no weather; whoever comes late gets the second."""
AGAIN = {3: (1, 2), 9: (6,), 11: (8, 10)}
"""Hours that are uploaded again, by the hour in which they are."""
OFF = {6}
"""Hours in which no cycle runs."""
SETTINGS = """
preset = "demo"
[archive]
sources = ["{url}"]
late_hours = 2
workers = 2
retries = 2
read_timeout = 0.3
[sampling]
members = 4
[operations]
max_catch_up = 5
least_free = 0
page_fields = ["refc"]
[retention]
archive_hours = 10
dataset_hours = 12
forecasts_days = 0.34
"""
KEPT = {"archive": 10 + 2, "dataset": 12 + 1, "forecasts": 8 + 1, "page": 2 * 5}
"""Hours that retention leaves, the newest and the static fields among them, and pictures of two forecasts."""
UNPRUNED = 6
"""Hours for which cycles may be killed before they prune."""
FORKS = Path(__file__).with_name("cycle_forks.py")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own where that may be mounted, and whether it is one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    yield folder, mounted
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def publisher(tmp_path):
    return Publisher(tmp_path / "bucket", FIRST)


@pytest.fixture
def place(disk, publisher):
    made = Workspace(disk[0] / "w")
    folder = made.model("demo")
    folder.mkdir(parents=True)
    publisher.root.mkdir()
    with serve(publisher.root, handler=lab.faulty(publisher.script)) as server:
        made.settings_file.write_text(SETTINGS.format(url=server.url))
        hours = [str(FIRST - 900 * HOUR), str(FIRST - 800 * HOUR)]
        said = {"training_hours": hours, "model": {"history": 3, "leads": [1]}}
        (folder / "model.json").write_text(json.dumps(said))
        (folder / "model.safetensors").touch()
        yield made


@pytest.fixture
def run_cycles(place, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    beside = str(FORKS.parents[1] / "pictures")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [beside, os.environ.get("PYTHONPATH")])))
    with subprocess.Popen(
        [sys.executable, str(FORKS), str(place.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def run(number: int, *words: str, count: int = 1, kill: tuple[int, float, str] | None = None, full=None):
            """Exit codes of `count` cycles at the time that this hour should be there.

            `kill`: in which stage, counted from 1, how many seconds after it began, and `all` or the cycle `alone`.
            """
            now = f"{FIRST + (number + 1) * HOUR}:05"
            wanted = {"now": now, "count": count, "words": words, "kill": kill, "full": full}
            print(json.dumps(wanted), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def litter(place):
    """Leave files as kills do at worse moments than those of this test."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    forecast = sorted(place.forecasts.glob("*.zarr"))[-1]
    for path in (
        place.root / f".latest.json.{HOST}-{gone.pid}-0.partial",
        place.verification("operational") / f".scores.zarr.{HOST}-{gone.pid}-0.partial" / "crps",
        place.forecasts / ".20240519T20.zarr.1a2b3c.partial" / "t2m",
        forecast / "t2m" / "c" / "0.1a2b3c.partial",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def entries(path: Path) -> tuple[list[dict], int]:
    """The lines, and how many are torn."""
    found, torn = [], 0
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            torn += 1
    return found, torn


def publish(publisher: Publisher, number: int) -> None:
    """Publish the versions of this hour."""
    for one in range(max(0, number - 2), number + 1):
        if one % PERIOD not in LOST and one + LATE.get(one % PERIOD, 0) == number:
            publisher.publish(one, warmer=100 * (one % PERIOD in IMPLAUSIBLE))
    for one in AGAIN.get(number % PERIOD, ()):
        publisher.publish(number - number % PERIOD + one)


def fill(run_cycles, disk: Path, mounted: bool, number: int, chance: random.Random) -> list[int]:
    """A cycle on a disk that fills while it runs."""
    if not mounted:
        return run_cycles(number, full=chance.randint(0, 20))
    ballast = disk / "ballast"
    room = shutil.disk_usage(disk).free - 4096 * chance.randint(0, 50)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room)
    try:
        return run_cycles(number)
    finally:
        ballast.unlink()


def live(run_cycles, disk, number: int, chance: random.Random) -> tuple[str, list[int]]:
    """An hour's cycle: what it met, and how it ended."""
    match number % PERIOD:
        case 2:
            found = run_cycles(number, count=2)
            assert 5 in found, "the second of two leaves at once"
            return "two at once", found
        case 4:
            assert run_cycles(number, "--set", "operations.least_free=1e6") == [3]
            found = fill(run_cycles, *disk, number, chance)
            return ("full disk" if 3 in found else "nearly full disk"), found
        case 8:
            return "clock a day ahead", run_cycles(number + 24)
        case 10:
            return "clock behind", run_cycles(number - chance.randint(3, 6))
        case _:
            kill = chance.randint(0, 7), chance.uniform(0, 0.4), chance.choice(["all", "alone"])
            found = run_cycles(number, kill=kill)
            if number % PERIOD == PERIOD - 1:  # cron's next start, so that a period's outage ends
                found += run_cycles(number)
            return ("killed" if -signal.SIGKILL in found else "too fast to be killed"), found


def test_chaos_loses_nothing_and_leaves_nothing_half_written(place, run_cycles, publisher, disk):
    begun = time.monotonic()
    chance = random.Random(SEED)
    checks = WorkspaceChecks(place, publisher)
    for number in range(-5, 0):
        publisher.publish(number)
    met: Counter[str] = Counter()
    for number in range(HOURS):
        publish(publisher, number)
        publisher.trouble(chance, chance.randint(0, 3))
        if number % PERIOD in OFF:
            continue
        what, codes = live(run_cycles, disk, number, chance)
        met[what] += 1
        assert set(codes) <= {-signal.SIGKILL, 0, 3, 4, 5}, (number, what, codes)
        checks.look()
    assert met["killed"] >= HOURS // 6, met

    publisher.script.rules = []
    litter(place)
    for path in place.root.rglob("*.partial"):  # fast time: what was left an hour ago is seconds old
        if path.exists():
            os.utime(path, (0, 0))
    last = HOURS - 1
    for _ in range(8):  # what killed cycles had started may still be at it
        if run_cycles(last) == [0]:
            break
        time.sleep(0.5)
    for number in range(last - 3, last + 1):
        publisher.publish(number)
    assert run_cycles(last + 1) == [4], "which asks for all from the gap to the hour that is not there yet"
    assert run_cycles(last) == [0]
    checks.look()

    settings = load_settings(place.settings_file)
    expected = FIRST + last * HOUR
    there = InventoryReader(place, settings).read(expected, since=expected - 100 * HOUR)
    journal, torn = entries(place.root / "journal.jsonl")
    cycles = [entry for entry in journal if entry["verb"] == "cycle"]

    # Every hour is complete and what its publisher published, or named as a gap.
    hours = {FIRST + number * HOUR for number in range(HOURS)}
    lost = {hour for hour in hours if _within(hour) in LOST}
    rejected = {hour for hour in hours - set(checks.seen) if _within(hour) in IMPLAUSIBLE}
    assert hours - set(checks.seen) == lost | rejected
    assert {there.hour_status[hour] for hour in lost} <= {HourStatus.GAP, HourStatus.PRUNED}
    assert {there.hour_status[hour] for hour in rejected} <= {HourStatus.REJECTED, HourStatus.PRUNED}
    assert {str(hour) for hour in lost | rejected} <= {gap for entry in cycles for gap in entry["gaps"]}
    assert json.loads(place.last_cycle.read_text())["gaps"] == sorted(
        str(hour) for hour in lost | rejected if hour > expected - 9 * HOUR
    )
    assert {outcome.status for outcome in verify_archive(Archive(place.archive / "hrrr"))} == {"ok"}
    kept_first = [hour for hour, number in checks.seen.items() if number < len(publisher.versions[hour]) - 1]
    assert len(kept_first) >= 4, "what is uploaded again changes no hour that is here"

    # Every forecast that can be there is, once, with its own members.
    possible = [h for h in sorted(hours)[-6:] if all(there.ok(h - back * HOUR) for back in range(3))]
    assert len(possible) >= 3
    assert {init for init, one in there.forecasts.items() if one.complete} >= set(possible)
    assert due_cases(there, cycle_limits(settings)) == frozenset()
    lines = [line for path in place.root.rglob("history/*.jsonl") for line in entries(path)[0]]
    cases = Counter((line["init"], line["lead"]) for line in lines)
    assert set(cases.values()) == {1}, "no case is scored twice"
    assert len(cases) >= len(possible) - 1
    assert json.loads(place.latest.read_text())["forecast"] == f"forecasts/{compact(max(possible))}.zarr"

    # Nothing half-written, nothing beyond its bound, and lines torn only where a stage met the full disk.
    assert list(place.root.rglob("*.partial")) == []
    assert torn <= 4 * (met["full disk"] + met["nearly full disk"])
    checks.most.clear()
    checks.look()
    assert all(checks.most[room] <= most for room, most in KEPT.items()), checks.most
    bound = sum((most + UNPRUNED) * checks.largest[room] for room, most in KEPT.items())
    assert checks.largest["all"] <= bound
    figures = {
        "hours": HOURS,
        "seed": SEED,
        "cycles": dict(met),
        "faults": dict(publisher.served),
        "complete": len(hours & set(checks.seen)),
        "lost": len(lost),
        "rejected": len(rejected),
        "uploaded again, first kept": len(kept_first),
        "forecasts": len(checks.forecasts),
        "scored": len(cases),
        "bytes": checks.largest["all"],
        "bound": bound,
        "seconds": round(time.monotonic() - begun, 1),
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def _within(hour) -> int:
    return int((hour - FIRST) / HOUR) % PERIOD
