"""A certificate says what is reliable only where intervals and days allow it."""

from __future__ import annotations

import json

import pytest

from convcast.verification import evaluate
from convcast.verification.report.certificate import render_certificate
from convcast.verification.report.save import save
from convcast.verification.results.certificate import certify

from ..conftest import INITS


def row(score="spread_error_ratio", value=1.0, low=0.91, high=1.1, **more):
    counts = {"field": "t2m", "lead_hours": 1, "system": "convcast", "n": 40, "days": 30}
    return counts | {"score": score, "value": value, "low": low, "high": high} | more


@pytest.fixture(scope="module")
def verification(whole):
    under_way = evaluate(
        whole.paths, whole.dataset, against=["persistence"], settings=whole.settings(), workspace=whole.workspace
    )
    list(under_way)
    return under_way.result()


class Given:
    """A verification of these rows alone."""

    def __init__(self, verification, rows, days=30):
        inits = tuple(f"2024-05-{1 + day:02d}T06" for day in range(days))
        self.scores, self.beside = rows, ()
        self.facts = type(verification.facts)(**(vars(verification.facts) | {"days": days, "inits": inits}))


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (row(), "reliable"),
        (row(value=0.7, low=0.6, high=0.8), "not reliable"),
        (row(value=0.97, low=0.96, high=0.98), "reliable"),
        (row(value=1.3, low=1.1, high=1.5), "not reliable"),
        (row(value=1.06, low=0.98, high=1.14), "not known"),
        (row(regime="unstable", value=0.44, low=0.43, high=17.4), "not known"),
        (row("frequency_bias", 1.0, 0.3, 3.0, threshold=300.0), "not known"),
        (row(low=None, high=None), "not known"),
        (row(low=0.902), "not known"),
        (row(high=1.103), "not known"),
        (row("frequency_bias", 1.0, 0.641, 1.562, threshold=300.0), "reliable"),
        (row("frequency_bias", 1.0, 0.63, 1.5, threshold=300.0), "not known"),
        (row("frequency_bias", 1.2, 1.15, 1.24, threshold=300.0), "reliable"),
        (row("frequency_bias", 2.0, 1.5, 2.5, threshold=300.0), "not reliable"),
        (row("brier_skill", -0.2, -0.4, -0.1, threshold=300.0), "not reliable"),
        (row("brier_skill", 0.2, 0.1, 0.4, threshold=300.0), "reliable"),
        (row("brier_skill", 0.1, -0.1, 0.4, threshold=300.0), "not known"),
        (row("outliers", 2.0, 1.6, 2.4), "not reliable"),
        (row(regime="echo", value=0.5, low=0.4, high=0.6), "not reliable"),
    ],
)
def test_verdicts_are_by_interval_and_tolerance(verification, made, verdict):
    (judged,) = certify(Given(verification, [made]), [])["judged"]
    assert [one["verdict"] for one in judged["statements"]] == [verdict]
    assert judged["statements"][0]["n"] == 40
    assert judged["few_days"] is False


@pytest.mark.parametrize(
    ("share", "low", "verdict"),
    [(0.01, 0.005, "reliable"), (0.1, 0.09, "reliable"), (0.3, 0.2, "not reliable"), (0.2, 0.05, "not known")],
)
def test_reliability_of_probabilities_is_judged_beyond_what_few_members_lose(verification, share, low, verdict):
    """Eight members lose an eighth of the uncertainty even if they are right."""
    of = {"field": "refc", "threshold": 40.0}
    parts = {"value": 0.2 * share, "low": 0.2 * low, "high": 0.2 * (share + 0.1)}
    rows = [row("brier_reliability", **parts, **of), row("brier_uncertainty", 0.2, 0.2, 0.2, **of)]
    (judged,) = certify(Given(verification, rows), [])["judged"]
    (statement,) = judged["statements"]
    assert statement["verdict"] == verdict
    assert statement["value"] == pytest.approx(share)
    assert judged["summary"] == [f"{verdict.capitalize()}: reliability of probabilities of REFC ≥ 40 dBZ at 1 h."]


def test_the_summary_names_each_kind_of_statement_once(verification):
    rows = [row(), row(field="refc"), row("outliers"), row("frequency_bias", threshold=300.0)]
    (judged,) = certify(Given(verification, rows), [])["judged"]
    assert judged["summary"] == [
        "Reliable: spread of T2M, REFC at 1 h; tails of T2M at 1 h; frequency of T2M ≥ 300 K at 1 h."
    ]


def test_few_days_can_show_a_fault_and_no_reliability(verification):
    rows = [row(), row(value=0.7, low=0.6, high=0.8)]
    (judged,) = certify(Given(verification, rows, days=4), [])["judged"]
    assert [one["verdict"] for one in judged["statements"]] == ["not known", "not reliable"]
    assert judged["summary"][0].startswith("Only 4 days")


def test_other_systems_and_events_that_never_came_are_no_statements(verification):
    rows = [row(system="hrrr"), row("frequency_bias", None, None, None, note="no events", threshold=320.0)]
    assert certify(Given(verification, rows), [])["judged"][0]["statements"] == []


def test_certificate_of_a_verification_is_written_beside_its_report(verification, tmp_path, unpainted):
    save(verification, tmp_path, ["convcast sample --members 8", "convcast verify --against '<b>'"])
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    (judged,) = certificate["judged"]
    assert certificate["simulated"] is True
    assert certificate["models"] == ["0123456789ab"]
    assert (judged["first"], judged["last"]) == (str(INITS[0]), str(INITS[3]))
    assert judged["days"] == ["2024-05-03", "2024-05-04"]
    about = {(one["field"], one["score"]) for one in judged["statements"]}
    assert {("t2m", "spread_error_ratio"), ("refc", "frequency_bias"), ("cape", "brier_skill")} <= about
    assert ("cape", "brier_reliability") in about
    assert {one["regime"] for one in judged["statements"] if "regime" in one}
    assert {(one["reference"], one["score"]) for one in judged["beside"]} == {("persistence", "crps")}
    assert not any(one["verdict"] == "reliable" for one in judged["statements"])
    page = (tmp_path / "certificate.html").read_text()
    assert page == render_certificate(certificate)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "SIMULATED" in page
    assert "REFC ≥ 40 dBZ" in page
    assert "the value is 0.95 to 1.05 and its interval within 0.90 to 1.10" in page
    assert "the value is 0.80 to 1.25 and its interval within 0.64 to 1.56" in page
