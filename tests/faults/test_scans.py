"""Radar scans over HTTP: what is late, absent or damaged is named, and no other scan is lost."""

from __future__ import annotations

import gzip
from dataclasses import replace

import laboratory as lab
import numpy as np
import pytest
from laboratory import Rule

from convcast.archive import fetch_files, open_archives, open_sources, scans
from convcast.archive.simulated.scans import make_scan, scan_path
from convcast.archive.simulated.server import serve
from convcast.archive.web import http
from convcast.grib.scans import encode_scan
from convcast.grid import RegularGrid
from convcast.settings.load import load_settings
from convcast.variables import FIELDS
from convcast.workspace import Workspace

HOURS = lab.HOURS[:2]
FIRST, SECOND = map(scan_path, HOURS)
REFC = np.where(np.arange(192).reshape(lab.GRID.shape) % 3, 42.0, -10.0)


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Fetch the scans of two hours from a server, or a folder, of the bucket."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def bring(*rules, change=None, folder=False, age=1000):
        for hour, name in zip(HOURS, (FIRST, SECOND), strict=True):
            path = tmp_path / "bucket" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_scan(REFC, lab.GRID, hour, 1))
        if change is not None:
            path = tmp_path / "bucket" / FIRST
            changed = change(path.read_bytes())
            path.unlink() if changed is None else path.write_bytes(changed)
        settings = load_settings(flags={"archive": {"retries": 1, "read_timeout": 0.5, "workers": 2}})
        archive = open_archives(tmp_path / "archive")["mrms"]
        with serve(tmp_path / "bucket", handler=lab.faulty(lab.Script(list(rules)))) as server:
            name = str(tmp_path / "bucket") if folder else server.url
            with open_sources([name], workspace=Workspace(tmp_path), settings=settings) as sources:
                now = HOURS[0] + np.timedelta64(age, "h")
                found = list(fetch_files(scans.requests(archive, HOURS), sources, settings=settings.archive, now=now))
        assert {outcome.valid for outcome in found} == set(HOURS)
        kept = [archive.has(archive.root / outcome.file, ["refc"]) is not None for outcome in found]
        assert kept == [outcome.status in ("ok", "cached") for outcome in found]
        return {outcome.valid: outcome for outcome in found}

    return bring


@pytest.mark.parametrize("folder", [False, True])
def test_scans_are_fetched_once(bring, folder):
    assert {outcome.status for outcome in bring(folder=folder).values()} == {"ok"}
    assert {outcome.status for outcome in bring(folder=folder).values()} == {"cached"}


def spoil_message(**changes):
    grid = RegularGrid(20, 30, 36.995, 262.005, 0.01)
    as_it_should_be = {
        "key": scans.SCAN_KEY,
        "grid": grid,
        "time": HOURS[0] + np.timedelta64(36, "s"),
        "values": np.where(np.arange(600).reshape(20, 30) % 2, 12.5, -99.0),
    }
    parts = as_it_should_be | changes
    values = parts.pop("values")
    return lambda _: gzip.compress(encode_scan(values, **parts))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda packed: packed[: len(packed) // 2], "cut short"),
        (lambda packed: b"<html>log in</html>", "cannot be unpacked"),
        (lambda packed: packed + b"x", "other bytes"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-10]), "cut short"),
        (lambda packed: gzip.compress(gzip.decompress(packed) * 2), "2 messages"),
        (spoil_message(time=HOURS[0] + np.timedelta64(31, "m")), "belongs to the cycle of"),
        (spoil_message(key=replace(scans.SCAN_KEY, number=1)), "another field"),
        (spoil_message(key=FIELDS["refc"].grib), "another field"),
    ],
)
def test_damage_is_named_and_stops_no_other_scan(bring, change, said):
    outcomes = bring(change=change)
    assert outcomes[HOURS[0]].status == "bad"
    assert said in outcomes[HOURS[0]].reason
    assert outcomes[HOURS[1]].status == "ok"
    assert bring()[HOURS[0]].status == "ok"


@pytest.mark.parametrize(("age", "status"), [(1, "late"), (1000, "gap")])
def test_absent_scan_is_late_or_a_gap(bring, age, status):
    outcomes = bring(change=lambda _: None, age=age)
    assert (outcomes[HOURS[0]].status, outcomes[HOURS[1]].status) == (status, "ok")
    assert "within 5 minutes" in outcomes[HOURS[0]].reason


@pytest.mark.parametrize(
    ("answer", "times", "status"),
    [
        (lab.status(503), 1, "ok"),
        (lab.status(503), 9, "transient"),
        (lab.truncate, 1, "ok"),
        (lab.truncate, 9, "transient"),
        (lab.break_off, 9, "transient"),
        (lab.stall, 9, "transient"),
        (lab.ignore_range, 9, "bad"),
        (lab.misjudge(0.5), 9, "transient"),
        (lab.misjudge(2.0), 9, "bad"),
        (lab.page, 9, "bad"),
    ],
)
def test_faults_of_the_server(bring, answer, times, status):
    outcomes = bring(Rule(FIRST, answer, times))
    assert (outcomes[HOURS[0]].status, outcomes[HOURS[1]].status) == (status, "ok")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lab.status(500), "transient"),
        (lab.status(403), "transient"),
        (lab.page, "bad"),
        (lab.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n<ListBucketResult>\n"), "bad"),
    ],
)
def test_faults_of_the_list(bring, answer, status):
    ending = f"{HOURS[0]}".replace("-", "").replace("T", "-") + "0"
    outcomes = bring(Rule(ending, answer))
    assert (outcomes[HOURS[0]].status, outcomes[HOURS[1]].status) == (status, "ok")
