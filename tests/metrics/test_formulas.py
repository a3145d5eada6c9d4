from __future__ import annotations

import numpy as np
import pytest

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


def table_of(generator, members=10, points=3000):
    """Members and truth at points whose chance of an event differs, and their table."""
    chance = generator.beta(0.5, 2, points)
    count = generator.binomial(members, chance)
    event = generator.random(points) < chance
    table = np.bincount(2 * count + event, minlength=2 * (members + 1)).reshape(-1, 2)
    return table.astype(float), count, event


def test_the_parts_of_the_brier_score_are_its_sum():
    table, count, event = table_of(np.random.default_rng(0))
    reliability, resolution, uncertainty = formulas.brier_parts(table)
    assert reliability - resolution + uncertainty == pytest.approx(((count / 10 - event) ** 2).mean())
    assert uncertainty == pytest.approx(event.mean() * (1 - event.mean()))
    assert 0 < reliability < resolution
    assert formulas.brier_skill(table, fair=False) == pytest.approx(1 - formulas.brier(table, fair=False) / uncertainty)


def test_a_constant_forecast_resolves_nothing_and_has_no_skill():
    table = np.zeros((11, 2))
    table[3] = 70, 30
    reliability, resolution, _ = formulas.brier_parts(table)
    assert (reliability, resolution) == (pytest.approx(0), pytest.approx(0))
    assert formulas.brier_skill(table, fair=False) == pytest.approx(0)


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
    assert formulas.critical_success_index(table, fewest) == pytest.approx(float(expected.threat_score()))


def test_members_that_are_like_the_truth_have_no_frequency_bias():
    table, count, event = table_of(np.random.default_rng(4), points=200_000)
    assert formulas.frequency_bias(table) == pytest.approx(count.sum() / 10 / event.sum())
    assert formulas.frequency_bias(table) == pytest.approx(1, abs=0.02)


def test_scores_of_events_that_never_were_are_undefined():
    table = np.zeros((11, 2))
    table[:, 0] = 5
    assert np.isnan(formulas.roc_area(table))
    assert np.isnan(formulas.frequency_bias(table))
    assert np.isnan(formulas.brier_skill(table, fair=True))


def test_every_score_of_a_table_is_finished_for_many_at_once():
    tables = np.stack([table_of(np.random.default_rng(i))[0] for i in range(4)])
    for score in (
        formulas.roc_area,
        formulas.frequency_bias,
        lambda t: formulas.brier_skill(t, fair=True),
        lambda t: formulas.brier_parts(t)[0],
        lambda t: formulas.critical_success_index(t, 5),
    ):
        np.testing.assert_allclose(score(tables), [score(table) for table in tables])


def test_outliers_of_a_flat_histogram_are_as_many_as_they_should_be():
    assert formulas.outliers(np.full(11, 7.0)) == 1
    assert formulas.outliers(np.array([0, 5, 5, 0.0])) == 0
