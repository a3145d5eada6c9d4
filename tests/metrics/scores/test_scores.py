from __future__ import annotations

import numpy as np
import pytest
from table_by_hand import table_of

from convcast.metrics import formulas
from convcast.metrics.scores import EVENT_SCORES, POINT_SCORES
from convcast.metrics.scores.events import BrierSkill, FrequencyBias
from convcast.metrics.scores.spread import Outliers
from convcast.metrics.scores.yes_or_no import CriticalSuccessIndex
from convcast.metrics.sums import POINT_SUMS


def test_the_parts_of_the_brier_score_are_its_sum():
    table, count, event = table_of(np.random.default_rng(0))
    reliability, resolution, uncertainty = formulas.brier_parts(table)
    assert reliability - resolution + uncertainty == pytest.approx(((count / 10 - event) ** 2).mean())
    assert uncertainty == pytest.approx(event.mean() * (1 - event.mean()))
    assert 0 < reliability < resolution
    fair = formulas.brier(table, fair=True)
    assert BrierSkill().value(table) == pytest.approx(1 - fair / uncertainty)


def test_a_constant_forecast_resolves_nothing_and_has_no_skill():
    table = np.zeros((11, 2))
    table[3] = 70, 30
    reliability, resolution, uncertainty = formulas.brier_parts(table)
    assert (reliability, resolution) == (pytest.approx(0), pytest.approx(0))
    assert formulas.brier(table, fair=False) == pytest.approx(uncertainty)


@pytest.mark.parametrize("fewest", [1, 5, 10])
def test_contingency_is_xskillscore_s(fewest):
    import xarray as xr
    import xskillscore

    table, count, event = table_of(np.random.default_rng(3))
    edges = np.array([-0.5, 0.5, 1.5])
    arrays = xr.DataArray(event.astype(float), dims="point"), xr.DataArray((count >= fewest) * 1.0, dims="point")
    expected = xskillscore.Contingency(*arrays, edges, edges, dim="point")
    hits, misses, false_alarms = formulas.contingency(table, fewest)
    assert (hits, misses, false_alarms) == (expected.hits(), expected.misses(), expected.false_alarms())
    if fewest == 5:
        assert CriticalSuccessIndex().value(table) == pytest.approx(float(expected.threat_score()))


def test_members_that_are_like_the_truth_have_no_frequency_bias():
    table, count, event = table_of(np.random.default_rng(4), points=200_000)
    assert FrequencyBias().value(table) == pytest.approx(count.sum() / 10 / event.sum())
    assert FrequencyBias().value(table) == pytest.approx(1, abs=0.02)


def test_scores_of_events_that_never_were_are_undefined():
    table = np.zeros((11, 2))
    table[:, 0] = 5
    assert np.isnan(formulas.roc_area(table))
    assert np.isnan(FrequencyBias().value(table))
    assert np.isnan(BrierSkill().value(table))


def test_every_score_of_a_table_is_finished_for_many_at_once():
    tables = np.stack([table_of(np.random.default_rng(i))[0] for i in range(4)])
    for score in (
        formulas.roc_area,
        FrequencyBias().value,
        BrierSkill().value,
        lambda t: formulas.brier_parts(t)[0],
        CriticalSuccessIndex().value,
    ):
        np.testing.assert_allclose(score(tables), [score(table) for table in tables])


def test_outliers_of_a_flat_histogram_are_as_many_as_they_should_be():
    assert Outliers().value({"ranks": np.full(11, 7.0)}) == 1
    assert Outliers().value({"ranks": np.array([0, 5, 5, 0.0])}) == 0


def test_every_score_can_be_told_apart_and_has_its_sums():
    named = [(score.name, score.estimator) for score in (*POINT_SCORES, *EVENT_SCORES)]
    assert len(set(named)) == len(named)
    for score in POINT_SCORES:
        assert {*score.sums} <= {*POINT_SUMS, "ranks"}


def test_scores_of_no_points_are_undefined():
    nothing = dict.fromkeys(POINT_SUMS, np.zeros(())) | {"ranks": np.zeros(11), "members": np.asarray(10.0)}
    assert all(np.isnan(score.value(nothing)) for score in POINT_SCORES)
    assert all(np.isnan(score.value(np.zeros((11, 2)))) for score in EVENT_SCORES)
