from __future__ import annotations

import numpy as np
import pytest
from table_by_hand import table_of

from convcast.metrics import formulas


def test_fair_brier_score_does_not_depend_on_the_size_of_the_ensemble():
    generator = np.random.default_rng(0)
    chance = generator.uniform(0, 1, 400_000)
    event = generator.random(chance.size) < chance
    expected = (chance * (1 - chance)).mean()
    for members in (2, 5, 20):
        count = generator.binomial(members, chance)
        table = np.bincount(2 * count + event, minlength=2 * members + 2).reshape(-1, 2)
        assert float(formulas.brier(table, fair=True)) == pytest.approx(expected, abs=0.002)


def test_plain_brier_score_is_the_mean_squared_error_of_probabilities():
    table = np.array([[3, 1], [0, 0], [1, 5]])
    expected = (1 * 1.0 + 1 * 1.0) / 10
    assert float(formulas.brier(table, fair=False)) == pytest.approx(expected)


def test_correlation_of_a_constant_is_undefined():
    n, x, y = 3.0, np.full(3, 0.1), np.array([1.0, 2.0, 4.0])
    found = formulas.correlation(n, x.sum(), y.sum(), (x**2).sum(), (y**2).sum(), (x * y).sum())
    assert np.isnan(found)


def test_a_ratio_over_nothing_is_undefined():
    np.testing.assert_array_equal([np.nan, 2.0], formulas.ratio(np.array([0.0, 4.0]), np.array([0.0, 2.0])))


def test_the_area_under_roc_is_the_chance_that_an_event_is_ranked_first():
    from scipy.stats import mannwhitneyu

    table, count, event = table_of(np.random.default_rng(1))
    expected = mannwhitneyu(count[event], count[~event]).statistic / (event.sum() * (~event).sum())
    assert formulas.roc_area(table) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Converting input from bool")
def test_the_area_under_roc_is_xskillscore_s():
    import xarray as xr
    import xskillscore

    table, count, event = table_of(np.random.default_rng(2))
    found = xskillscore.roc(
        xr.DataArray(event, dims="point"),
        xr.DataArray(count / 10, dims="point"),
        bin_edges=np.linspace(-0.05, 1.05, 12),
        return_results="area",
    )
    assert formulas.roc_area(table) == pytest.approx(float(found), abs=1e-9)
