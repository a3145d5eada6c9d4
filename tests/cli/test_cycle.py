"""`convcast cycle` and what monitoring asks of `convcast status`, on workspaces without a model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from convcast.files import lock
from convcast.notation import compact

NOW = np.datetime64("2024-05-20T05", "h")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text('preset = "demo"\n')
    return tmp_path / "w"


@pytest.fixture
def forecast(workspace):
    """Products of one forecast, which is enough to be the newest."""
    path = workspace / "products" / f"{compact(NOW)}.zarr"
    path.parent.mkdir()
    zarr.create_group(path, attributes={"leads": [1]})


def test_a_second_one_exits_with_5_at_once_and_leaves_no_trace(convcast, workspace):
    with lock(workspace / "locks" / "cycle.lock", "cycling"):
        result = convcast("cycle")

    assert result.exit_code == 5
    assert "another run is cycling" in result.stderr
    assert not (workspace / "journal.jsonl").exists()


def test_too_little_disk_is_3_with_the_figure(convcast, workspace):
    result = convcast("cycle", "--set", "operations.least_free=1e9")

    assert result.exit_code == 3
    assert "GB are free on the disk of w, and a cycle begins with 1e+09 GB" in result.stderr
    assert "retention" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--deadline", "soon"], "not a length of time"),
        (["--max-catch-up", "-3h"], "not a length of time"),
        (["--now", "later"], "not a time"),
        (["--set", "operations.every=5"], "operations.every"),
        (["--set", "retention.forecast_days=5"], "did you mean retention.forecasts_days?"),
    ],
)
def test_impossible_options_exit_with_2(convcast, workspace, words, sentence):
    result = convcast("cycle", *words)

    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("now", "limit", "code"), [("06:59", "2h", 0), ("07:01", "2h", 4), ("07:01", "3h", 0), ("07:01", "90m", 4)]
)
def test_a_check_fails_when_the_newest_forecast_is_too_old(convcast, workspace, forecast, now, limit, code):
    result = convcast("status", "--check", "-q", "--max-age", limit, "--now", f"2024-05-20T{now}")

    assert (result.exit_code, result.stdout) == (code, "")
    assert ("of 2024-05-20T05, is 2 h 1 min old" in result.stderr) == (code == 4)


def test_a_check_fails_without_any_forecast(convcast, workspace):
    result = convcast("status", "--check", "-q")

    assert result.exit_code == 4
    assert "no complete forecast" in result.stderr


def test_status_shows_how_the_last_cycle_went(convcast, workspace, forecast):
    stages = [{"stage": "fetch", "code": 3, "seconds": 65.2, "outcome": "incomplete", "error": "aws: no answer"}]
    entry = {"started": "2024-05-20T06:05:00Z", "outcome": "incomplete", "seconds": 70, "code": 3, "notes": ["a note"]}
    (workspace / "cycle.json").write_text(json.dumps(entry | {"stages": stages}))

    result = convcast("status", "--now", "2024-05-20T06:30")

    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "forecast of 2024-05-20T05, 1 h 30 min old" in text
    assert "2024-05-20T06:05:00Z, incomplete, 1 min 10 s: fetch 1 min 5 s" in text
    assert "fetch: aws: no answer" in text
    assert "a note" in text
    assert "late 2024-05-20T04, 2024-05-20T05 should be published" in text
    assert "free" in text


def test_status_says_it_all_in_json(convcast, workspace, forecast):
    said = json.loads(convcast("status", "--json", "--now", "2024-05-20T06:30").stdout)["operations"]

    assert said["newest_forecast"] == "2024-05-20T05"
    assert said["forecast_age_seconds"] == 5400
    assert said["too_old"] is False
    assert said["late"] == ["2024-05-20T04", "2024-05-20T05"]
    assert said["free_bytes"] > 0


def test_status_names_the_newest_report_and_the_page(convcast, workspace, forecast):
    for name, when in (("operational", 2e9), ("an-older-one", 1e9)):
        report = workspace / "verification" / name / "report.html"
        report.parent.mkdir(parents=True)
        report.write_text("")
        os.utime(report, (when, when))
    without = json.loads(convcast("status", "--json").stdout)
    (workspace / "latest").mkdir()
    (workspace / "latest" / "index.html").write_text("")

    said = json.loads(convcast("status", "--json").stdout)
    table = "".join(convcast("status").stdout.split())  # long paths are wrapped

    assert without["page"] is None
    assert Path(said["report"]).resolve() == workspace / "verification" / "operational" / "report.html"
    assert Path(said["page"]).resolve() == workspace / "latest" / "index.html"
    assert f"report{said['report']}page{said['page']}" in table


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        "null",
        '"x"',
        "[" * 100_000,
        "9" * 5000,
        "{}",
        '{"started": 1, "outcome": 2, "seconds": "x", "code": 0, "stages": {}, "notes": 7}',
        '{"started": "", "outcome": "", "seconds": Infinity, "code": 0, "stages": [], "notes": []}',
        '{"started": "", "outcome": "", "seconds": 1, "code": 1e400, "stages": [], "notes": []}',
        '{"started": "", "outcome": "", "seconds": 1, "code": 0, "stages": [{"stage": 1}], "notes": [[]]}',
        "\udcff",
    ],
    ids=lambda record: record[:20].encode("ascii", "backslashreplace").decode(),
)
def test_a_damaged_record_of_the_last_cycle_is_no_reason_to_fail(convcast, workspace, forecast, record):
    (workspace / "cycle.json").write_bytes(record.encode(errors="surrogateescape"))
    result = convcast("status", "--now", "2024-05-20T06:30")

    assert result.exit_code == 0, result.stderr
    assert "cycle.json is damaged" in result.stdout


def test_a_folder_in_place_of_the_record_of_the_last_cycle(convcast, workspace, forecast):
    (workspace / "cycle.json").mkdir()

    assert convcast("status", "--check", "-q", "--now", "2024-05-20T06:30").exit_code == 0
