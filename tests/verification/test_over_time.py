"""The extremes over several leads are scored as one quantity, of every system alike."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from convcast.archive.simulated.publisher import simulated_grid
from convcast.conventions import ensemble_dataset
from convcast.errors import SettingsError
from convcast.notation import HOUR
from convcast.variables import FIELDS
from convcast.verification import evaluate
from convcast.verification.cases import over_time
from convcast.verification.report.html import render_report
from convcast.verification.report.maps import draw_case
from convcast.verification.results.certificate import certify
from convcast.verification.results.warnings import warnings_of_model

from .conftest import INITS, SIZE, START, TRAINING, VARIABLES, Small, copied, physical, truth_anomalies

LEADS = (1, 2, 4)
COUNT = 4


@pytest.fixture(scope="module")
def place(whole, tmp_path_factory) -> Small:
    return copied(whole, tmp_path_factory.mktemp("over-time") / "workspace")


@pytest.fixture(scope="module")
def forecasts(place):
    """Forecasts of the first two initial times, and their members by field, (init, member, lead, y, x)."""
    generator = np.random.default_rng(0)
    drawn = {v.name: [] for v in VARIABLES}
    for init in INITS[:2]:
        anomaly = np.stack([truth_anomalies()[int((init - START) / HOUR) + lead] for lead in LEADS])
        members = anomaly + 0.5 * generator.standard_normal((COUNT, *anomaly.shape))
        fields = {v.name: physical(members[:, :, i], v) for i, v in enumerate(VARIABLES)}
        said = {"simulated": True, "training_hours": TRAINING, "model_sha256": "0123456789abcdef"}
        made = ensemble_dataset(
            fields, init=init, members=range(COUNT), leads=LEADS, grid=simulated_grid(SIZE), attributes=said
        )
        made.to_zarr(place.workspace.forecast(init), mode="w", zarr_format=3, consolidated=False)
        for name, values in fields.items():
            drawn[name].append(values)
    return {name: np.stack(values) for name, values in drawn.items()}


def verify(place, within, **options):
    paths = [place.workspace.forecast(init) for init in INITS[:2]]
    under_way = evaluate(
        paths,
        place.dataset,
        against=["persistence"],
        settings=place.settings(),
        workspace=place.workspace,
        within=within,
        **options,
    )
    list(under_way)
    return under_way.result()


@pytest.fixture(scope="module")
def verified(place, forecasts):
    """Verify the forecasts over the leads within so many hours, or each lead alone, once."""
    return cache(lambda within: verify(place, within))


def observed(place, name, leads):
    """(init, lead, y, x)"""
    number = list(FIELDS).index(name)
    return np.stack([place.dataset.read([init + lead * HOUR for lead in leads])[:, number] for init in INITS[:2]])


@pytest.mark.parametrize(("name", "most"), [("refc", "max"), ("t2m", "max"), ("cin", "min")])
@pytest.mark.parametrize("within", [2, 6])
def test_the_extremes_of_members_and_truth_are_scored(place, forecasts, verified, name, most, within):
    leads = [lead for lead in LEADS if lead <= within]
    found = verified(within)
    assert found.facts.leads == (leads[-1],)
    assert found.facts.cases == 2
    x = getattr(forecasts[name][:, :, : len(leads)].astype(float), most)(axis=2)
    y = getattr(observed(place, name, leads).astype(float), most)(axis=1)
    error = np.abs(x - y[:, None]).mean()
    between = np.abs(x[:, :, None] - x[:, None]).sum(axis=(1, 2)).mean() / (COUNT * (COUNT - 1))
    row = found.find(name, "crps", "convcast", estimator="fair")
    assert row["value"] == pytest.approx(error - between / 2, rel=1e-4)
    last = np.stack([place.dataset.read([init])[0, list(FIELDS).index(name)] for init in INITS[:2]])
    row = found.find(name, "crps", "persistence", estimator="fair")
    assert row["value"] == pytest.approx(np.abs(last.astype(float) - y).mean(), rel=1e-4)


def test_an_event_is_one_at_any_of_the_times(place, verified):
    found = verified(6)
    threshold = 20.0
    happened = (observed(place, "refc", LEADS) >= threshold).any(axis=1)
    assert 0 < happened.sum() < happened.size
    row = found.find("refc", "brier", "convcast", threshold=threshold)
    assert row["events"] == happened.sum()


def test_the_report_and_the_certificate_show_changes_and_name_the_leads(verified):
    found = verified(6)
    page = render_report(found, [])
    assert "Changes from lead to lead" in page
    assert "Fair CRPS at any of 1, 2, 4 h" in page
    assert "extremes at any of 1, 2, 4 h, forecast from 2024-05-0" in draw_case(found).title
    assert "<td>REFC (dBZ)</td><td>2 to 4 h</td>" in page
    assert "Changes from lead to lead" not in render_report(verified(None), [])
    assert found.facts.when(4) == "at any of 1, 2, 4 h"
    (certified,) = certify(found, [])["judged"]
    changes = [row for row in certified["beside"] if row["score"] == "crps_change"]
    assert {(row["from_hours"], row["to_hours"]) for row in changes} == {(1, 2), (2, 4)}


def test_maps_of_a_lead_carry_no_warning_about_several_leads(place, forecasts):
    worse = {"score": "brier_skill", "field": "refc", "system": "convcast", "lead_hours": 4, "threshold": 40.0}
    row = worse | {"value": -1.0, "low": -1.1, "high": -0.9}
    folder = place.workspace.verification("within-6")
    folder.mkdir(parents=True)
    for window, count in (([1, 2, 4], 0), ([], 1)):
        document = {"facts": {"models": ["abc"], "window": window}, "scores": [row]}
        (folder / "scores.json").write_text(json.dumps(document))
        assert len(warnings_of_model(folder.parent, "abc", FIELDS["refc"], 4)) == count


def test_the_report_says_what_is_scored(verified):
    notes = " ".join(verified(6).facts.notes)
    assert "the highest value (for CIN the lowest) at each point over the leads 1, 2, 4 h" in notes
    assert "highest value" not in " ".join(verified(None).facts.notes)


def fair_crps(x, y):
    """Members (init, member, y, x) and truth (init, y, x)."""
    between = np.abs(x[:, :, None] - x[:, None]).sum(axis=(1, 2)).mean() / (COUNT * (COUNT - 1))
    return np.abs(x - y[:, None]).mean() - between / 2


@pytest.mark.parametrize("name", ["refc", "t2m", "cin"])
def test_the_change_of_members_between_leads_is_scored_against_that_of_the_truth(place, forecasts, verified, name):
    found = verified(6)
    members, truth = forecasts[name].astype(float), observed(place, name, LEADS).astype(float)
    for first, last in ((0, 1), (1, 2)):
        leads = {"from_hours": LEADS[first], "to_hours": LEADS[last]}
        x, y = members[:, :, last] - members[:, :, first], truth[:, last] - truth[:, first]
        row = found.find(name, "crps_change", "convcast", **leads)
        assert (row["estimator"], row["n"], row["points"]) == ("fair", 2, y.size)
        assert row["value"] == pytest.approx(fair_crps(x, y), rel=1e-4)
        none = found.find(name, "crps_change", "persistence", **leads)
        assert none["value"] == pytest.approx(np.abs(y).mean(), rel=1e-4)
        difference = found.find(name, "crps_change_difference", "convcast", reference="persistence", **leads)
        assert difference["value"] == pytest.approx(row["value"] - none["value"])
    assert verified(2).find(name, "crps_change", "convcast", from_hours=2) is None
    assert verified(None).find(name, "crps_change", "convcast") is None


def test_stored_scores_of_single_leads_are_not_taken_for_them(place, verified, tmp_path):
    single = verify(place, None, keep=tmp_path / "cases")
    together = verify(place, 6, keep=tmp_path / "cases")
    assert together.scores == verified(6).scores
    assert single.find("t2m", "crps", "convcast", lead_hours=4) != together.find("t2m", "crps", "convcast")


def test_a_forecast_without_one_of_the_leads_is_left_out(place, forecasts):
    from convcast.verification.cases import outside_training
    from convcast.verification.data.ensembles import open_ensembles
    from convcast.verification.data.truth import Analyses

    truth = Analyses(place.dataset)
    ensembles = []
    for init in INITS[:3]:  # the third has one lead
        path = place.workspace.forecast(init)
        ensembles += open_ensembles(path, fields=truth.variables, points=truth.points, simulated=True).ensembles
    left_out = Counter()
    cases = over_time(outside_training(ensembles, left_out), 6, left_out)
    assert [(case.init, case.leads) for case in cases] == [(init, LEADS) for init in INITS[:2]]
    assert left_out == {"not all of the leads 1, 2, 4 h": 1}


def test_one_lead_alone_has_no_extremes(place, forecasts):
    with pytest.raises(SettingsError, match="have 1 leads within 1 h, and extremes are over several"):
        verify(place, 1)
