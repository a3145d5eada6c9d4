from __future__ import annotations

import io

from rich.console import Console

from convcast.cli.common.validation import draw_validation, last_validation

SKILL = {"crps": 1.0, "persistence": 2.0, "spread_error": 0.93, "rmse": 3.0, "reference_rmse": 4.0}
REFC = {
    **SKILL,
    "log_spectral_distance": 1.26,
    "events": [
        {"lead": 1, "threshold": None, "forecast": 0.3, "observed": 0.25},
        {"lead": 1, "threshold": 40.0, "forecast": 0.01, "observed": 0.02},
        {"lead": 1, "threshold": 50.0, "forecast": 0.01, "observed": 0.0},
    ],
}
T2M = {**SKILL, "log_spectral_distance": None, "events": []}


def report(step, fields):
    validation = {"members": 8, "cases": 16, "first": "2024-05-01T00", "last": "2024-05-02T00", "fields": fields}
    return {"step": step, "loss": 0.3, "validation": validation}


def drawn(found):
    console = Console(file=io.StringIO(), width=120)
    for part in draw_validation("demo", found):
        console.print(part)
    return console.file.getvalue()


def words(text):
    return " ".join(text.split())


def test_scores_and_frequency_biases_are_shown():
    text = drawn(report(500, {"refc": REFC, "t2m": T2M}))
    title = "validation of demo after step 500: 8 members, 16 cases, 2024-05-01T00 to 2024-05-02T00"
    assert title in words(text)
    assert [line.split() for line in text.splitlines() if line.startswith(("refc ", "t2m "))][:2] == [
        ["refc", "0.50", "0.93", "0.75", "1.3", "dB"],
        ["t2m", "0.50", "0.93", "0.75", "-"],
    ]
    assert "refc any echo, 1 h" in text
    assert "1.20" in text
    assert "refc ≥ 40 dBZ, 1 h" in text
    assert "50 dBZ" not in text  # never observed


def test_the_newest_report_with_scores_is_chosen():
    without = {"step": 900, "loss": 0.3, "validation": None}
    reports = [report(500, {"t2m": T2M}), report(700, {"t2m": T2M}), without, report(950, {})]
    assert last_validation(reports)["step"] == 700
    assert last_validation([without]) is None


def test_a_report_of_another_version_gives_no_table():
    assert draw_validation("demo", report(5, {"t2m": {"crps": 1.0}})) == []
    assert draw_validation("demo", report(5, {"t2m": {**T2M, "persistence": 0.0}})) == []
    assert draw_validation("demo", report(5, {"nosuch": {**T2M}})) == []
