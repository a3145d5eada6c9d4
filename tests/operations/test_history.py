"""Scores by case are kept once, for ever, and survive a torn line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from convcast.notation import HOUR
from convcast.operations.history import ScoreHistory

NOW = np.datetime64("2024-06-01T01", "h")
SYSTEMS, FIELDS = ("convcast", "persistence"), ("refc", "t2m")


def scores(inits, *, leads=(1, 3), crps=1.0, without=()):
    """Make scores as in scores.zarr: persistence is twice as bad; cases `without` have no points."""
    shape = len(SYSTEMS), len(FIELDS), len(leads), len(inits)
    values = np.full(shape, crps)
    values[1] *= 2
    points = np.full(shape, 100.0)
    for init, lead in without:
        points[:, :, leads.index(lead), list(inits).index(init)] = 0
    dimensions = ("system", "field", "lead_time", "init_time")
    data = {"crps": values, "rmse": values * 2, "spread": values, "error": -values, "points": points}
    data["crps"][0, 1] *= 3
    return xr.Dataset(
        {name: (dimensions, array) for name, array in data.items()},
        {
            "system": list(SYSTEMS),
            "field": list(FIELDS),
            "lead_time": np.array(leads, "timedelta64[h]").astype("timedelta64[ns]"),
            "init_time": np.array(inits, "datetime64[ns]"),
        },
        {"members": 4},
    )


def test_each_case_is_added_once_to_the_file_of_its_month(tmp_path):
    history = ScoreHistory(tmp_path)
    inits = [NOW - 2 * HOUR, NOW - HOUR]

    assert history.add(scores(inits, without=[(inits[1], 3)])) == 3
    assert history.add(scores(inits, crps=9.0)) == 1, "what is known keeps its first line"

    assert history.scored() == {(init, lead) for init in inits for lead in (1, 3)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2024-05.jsonl", "2024-06.jsonl"]
    first = json.loads((tmp_path / "2024-05.jsonl").read_text().splitlines()[0])
    assert first["scores"]["refc"]["persistence"] == {"crps": 2.0, "rmse": 4.0, "spread": 2.0, "error": -2.0}
    assert (first["init"], first["lead"], first["members"]) == (str(inits[0]), 1, 4)


def test_only_what_was_asked_for_is_looked_at(tmp_path):
    history = ScoreHistory(tmp_path)
    history.add(scores([NOW - 48 * HOUR, NOW], leads=(1,)))

    assert history.scored(NOW - HOUR) == {(NOW, 1)}
    assert ScoreHistory(tmp_path / "none").scored() == frozenset()


def test_a_line_that_a_power_cut_left_torn_harms_no_other(tmp_path):
    history = ScoreHistory(tmp_path)
    history.add(scores([NOW], leads=(1,)))
    path = tmp_path / "2024-06.jsonl"
    path.write_text(path.read_text() + '{"init": "2024-06-01T02", "le')

    history.add(scores([NOW + 2 * HOUR], leads=(1,)))

    assert history.scored() == {(NOW, 1), (NOW + 2 * HOUR, 1)}


def test_a_case_without_points_is_not_scored(tmp_path):
    history = ScoreHistory(tmp_path)
    assert history.add(scores([NOW], leads=(1,), without=[(NOW, 1)])) == 0
    assert history.scored() == frozenset()


def test_recent_skill_is_that_of_the_last_days(tmp_path):
    history = ScoreHistory(tmp_path)
    history.add(scores([NOW - 72 * HOUR], leads=(1,), crps=100.0))
    history.add(scores([NOW - HOUR, NOW], leads=(1,)))

    refc, t2m = history.recent(NOW, 2)

    assert (refc.field, refc.cases, refc.crps) == ("refc", 2, 1.0)
    assert refc.skill == {"persistence": pytest.approx(0.5)}
    assert t2m.skill == {"persistence": pytest.approx(-0.5)}
    assert refc.spread_error_ratio == pytest.approx(np.sqrt(5 / 4) / 2), "with the factor (M + 1) / M"
    assert history.recent(NOW + 100 * HOUR, 2) == []


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "[]",
        "7",
        '{"init": "2024-05-31T23", "lead": 1, "scores": []}',
        '{"init": "2024-05-31T23", "lead": 1, "scores": {"refc": {"convcast": 3}}}',
        '{"init": "2024-05-31T23", "lead": "soon", "scores": {}}',
        '{"init": "yesterday", "lead": 1, "scores": {}}',
        '{"init": 5, "lead": 1, "scores": {}}',
        '{"init": "2024-05-31T23", "scores": {}}',
    ],
    ids=lambda line: line[:60],
)
def test_a_damaged_line_is_passed_over(tmp_path, line):
    history = ScoreHistory(tmp_path)
    history.add(scores([NOW - HOUR]))
    with open(tmp_path / "2024-06.jsonl", "a") as file:
        file.write(line + "\n")
    with open(tmp_path / "2024-05.jsonl", "a") as file:
        file.write(line + "\n")

    assert history.scored() == {(NOW - HOUR, 1), (NOW - HOUR, 3)}
    assert [one.cases for one in history.recent(NOW, 2)] == [2, 2]
    assert history.valid_within(24, NOW)


@pytest.mark.parametrize("init", ["yesterday", "9999-12-31T00", 5, None])
def test_a_case_of_no_time_is_passed_over(tmp_path, init):
    history = ScoreHistory(tmp_path)
    history.add(scores([NOW], leads=(1,)))
    with open(tmp_path / "2024-06.jsonl", "a") as file:
        file.write(json.dumps({"init": init, "lead": 1, "scores": {}}) + "\n")

    assert history.scored() == history.scored(NOW - HOUR) == {(NOW, 1)}
